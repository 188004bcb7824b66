"""payment.py: takes the money for the order saga: the action payment.capture, in Python with psycopg2 and pika.

PGHOST, PGDATABASE, PGUSER ... say where the database is, AMQP_URI where RabbitMQ is. A connection that is lost ends the program, with its
commands unacknowledged: whoever keeps it running starts it again, and RabbitMQ delivers them again."""

import json
import os
import time
from decimal import Decimal

import pika
import psycopg2

TRIES = 5


def capture(cursor, saga, order):
    """The work: as if nothing of Sagapost were there."""
    cursor.execute("update shop.customer set balance = balance - %s where id = %s and balance >= %s",
                   (order["amount"], order["customer"], order["amount"]))
    if cursor.rowcount == 0:
        return "failed", {"code": "insufficient_funds", "message": f"customer {order['customer']} cannot pay {order['amount']}"}
    cursor.execute("insert into shop.payment (saga, customer, amount, reservation) values (%s, %s, %s, %s) returning id",
                   (saga["id"], order["customer"], order["amount"], order["reservation"]))
    return "ok", {"payment": cursor.fetchone()[0]}


def carry_out(database, command):
    with database, database.cursor() as cursor:  # BEGIN, and at the end COMMIT, or on an exception ROLLBACK
        cursor.execute("select verdict, input::text from saga.receive(%s)", (command,))
        verdict, order = cursor.fetchone()
        if verdict == "execute":  # every other verdict is answered already
            cursor.execute("savepoint work")
            outcome, output = capture(cursor, json.loads(command)["saga"], json.loads(order, parse_float=Decimal))
            if outcome != "ok":
                cursor.execute("rollback to work")
            cursor.execute("select saga.reply(%s, %s, %s)", (command, outcome, json.dumps(output)))


def give_up(database, command, why):
    """The saga goes on by the step's own policy. A command that cannot even be answered raises here too."""
    with database, database.cursor() as cursor:
        cursor.execute("select saga.reply(%s, 'transient', %s)", (command, json.dumps({"code": type(why).__name__, "message": str(why)})))


def serve(participant, work):
    database = psycopg2.connect("")

    def on_command(channel, method, _, body):
        for attempt in range(TRIES + 1):
            try:
                if attempt < TRIES:
                    work(database, body.decode())
                else:
                    give_up(database, body.decode(), problem)
                return channel.basic_ack(method.delivery_tag)  # only now
            except Exception as why:
                if database.closed:  # whether COMMIT took place is not known: no acknowledgement, the repeat is recognised
                    raise
                problem = why
                time.sleep(0.1 * attempt)
        return channel.basic_reject(method.delivery_tag, requeue=False)  # nobody can read it: to the queue saga.dead

    channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URI"])).channel()
    channel.basic_qos(prefetch_count=10)
    channel.basic_consume(f"saga.commands.{participant}", on_command)
    channel.start_consuming()


if __name__ == "__main__":
    serve("payment", carry_out)
