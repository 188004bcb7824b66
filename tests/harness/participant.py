"""A participant that is a program: what the tests have instead of SQL handlers."""

import json
import threading

import pika
import psycopg2


class Participant(threading.Thread):
    """The contract, in Python with psycopg2 and pika: receive, the work, reply, COMMIT, acknowledge."""

    def __init__(self, place, name, work):
        super().__init__(daemon=True)
        self.place, self.name_, self.work = place, name, work
        self.over, self.verdicts = False, []
        channel = place.channel()
        channel.exchange_declare("saga.commands", "topic", durable=True)
        channel.queue_declare(
            f"saga.commands.{name}", durable=True,
            arguments={"x-queue-type": "quorum", "x-delivery-limit": 1_000_000, "x-dead-letter-exchange": "saga.dead"},
        )
        channel.queue_bind(f"saga.commands.{name}", "saga.commands", f"{name}.#")

    def run(self):
        connection = pika.BlockingConnection(pika.URLParameters(self.place.amqp_uri))
        channel = connection.channel()
        database = psycopg2.connect(self.place.conninfo)
        while not self.over:
            method, _, body = channel.basic_get(f"saga.commands.{self.name_}")
            if not method:
                connection.process_data_events(0.01)
                continue
            self.carry_out(database, body.decode())
            channel.basic_ack(method.delivery_tag)
        connection.close()
        database.close()

    def carry_out(self, database, command):
        cursor = database.cursor()
        cursor.execute("select verdict, input::text from saga.receive(%s::jsonb)", (command,))
        verdict, given = cursor.fetchone()
        self.verdicts.append(verdict)
        if verdict == "execute":
            cursor.execute("savepoint work")
            outcome, output = self.work(cursor, json.loads(command)["saga"], given)
            if outcome != "ok":
                cursor.execute("rollback to work")
            cursor.execute("select saga.reply(%s::jsonb, %s, %s::jsonb)", (command, outcome, output))
        database.commit()
