"""card.py: payment.capture by credit card: an effect outside the database, with the provider's idempotency key.

The provider (PROVIDER, an http:// address) is made for this, as real ones are: PUT /charges/KEY charges, once however often it is asked;
DELETE /charges/KEY tells what became of it, and sees to it that a charge that was not made never will be. Both answer
{"charge": 17}, {"declined": "why"} or {}."""

import json
import os
import urllib.request
from decimal import Decimal

from payment import serve


def ask_provider(method, key, order=None):
    request = urllib.request.Request(f"{os.environ['PROVIDER']}/charges/{key}", method=method, data=json.dumps(order, default=str).encode())
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def carry_out(database, command):
    with database, database.cursor() as cursor:  # committed before the provider hears of it, so that no crash can forget it
        cursor.execute("select verdict, input::text from saga.receive(%s, external => true)", (command,))
        verdict, order = cursor.fetchone()
    if verdict not in ("execute", "resume", "in_doubt"):  # answered already
        return
    saga, order = json.loads(command)["saga"], json.loads(order, parse_float=Decimal)
    key = f"{saga['id']}:{saga['step']}:{saga['element']}"
    if verdict == "in_doubt":  # a probe asks what became of the action (an undo would take the charge back)
        answer = ask_provider("DELETE", key)
    else:  # execute, and resume: it was begun before a crash; the key makes it the same charge
        answer = ask_provider("PUT", key, order)
    with database, database.cursor() as cursor:
        if "charge" in answer:
            # `saga` is unique there. Whoever resumes the same command meanwhile and comes second fails here, and then finds it answered.
            cursor.execute("insert into shop.payment (saga, customer, amount, reservation) values (%s, %s, %s, %s) returning id",
                           (saga["id"], order["customer"], order["amount"], order["reservation"]))
            outcome, output = "ok", {"payment": cursor.fetchone()[0], "charge": answer["charge"]}
        elif "declined" in answer:
            outcome, output = "failed", {"code": "card_declined", "message": answer["declined"]}
        else:
            outcome, output = "not_executed", {}
        cursor.execute("select saga.reply(%s, %s, %s)", (command, outcome, json.dumps(output)))


if __name__ == "__main__":
    serve("payment", carry_out)
