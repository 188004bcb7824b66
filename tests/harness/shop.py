"""The shop of docker/shop as a saga's ledger: orders are placed, and at the end its books must balance."""

import threading

import psycopg2

from .sandbox import ROOT, lost
from .wait import patient, wait_until

FILES = ("orders", "stock", "payments", "order-saga")


class Shop:
    """The example shop inside a test's database."""

    def __init__(self, place):
        self.place = place
        self.placed = 0
        for name in FILES:
            place.sql(self.text(name))
        # What a worker must never do, made visible: an effect that happens twice breaks a unique constraint of the shop, and one
        # undone twice raises in shop.release. Both would end a saga in STUCK.

    @staticmethod
    def text(name):
        return (ROOT / "docker" / "shop" / f"{name}.sql").read_text()

    def order(self, number, cursor):
        cursor.execute(
            "select shop.place_order(%s, %s, %s, %s)",
            (f"ORD-{number}", number * 7 % 100 + 1, f"A{number * 13 % 20 + 1}", number % 3 + 1),
        )

    def place_orders(self, count, clients=4):
        """Each in a transaction of its own, by several clients, through lost connections. Starting the same order again is no second order."""
        first = self.placed + 1
        self.placed += count
        failures = []

        def client(numbers):
            connection = None
            for number in numbers:
                for _ in range(patient(600)):
                    try:
                        if connection is None:
                            connection = psycopg2.connect(self.place.conninfo, connect_timeout=5)
                        with connection.cursor() as cursor:
                            cursor.execute("select exists (select from shop.orders where id = %s)", (f"ORD-{number}",))
                            if not cursor.fetchone()[0]:
                                self.order(number, cursor)
                        connection.commit()
                        break
                    except psycopg2.Error as failure:
                        if not lost(connection, failure):
                            failures.append(f"{number}: {failure}")
                            break
                        if connection is not None:
                            connection.close()
                        connection = None
                        threading.Event().wait(0.1)
                else:
                    failures.append(number)
            if connection is not None:
                connection.close()

        threads = [
            threading.Thread(target=client, args=(range(first + n, first + count, clients),), daemon=True) for n in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(patient(120))
        assert not any(thread.is_alive() for thread in threads), "the clients do not end"
        assert not failures, f"orders not placed: {failures[:5]}"

    def place_many(self, count):
        """The same in one transaction; a COMMIT whose answer is lost is asked for."""
        first, last = self.placed + 1, self.placed + count
        for _ in range(patient(600)):
            try:
                if not self.place.value("select exists (select from shop.orders where id = %s)", (f"ORD-{first}",)):
                    self.place.sql(
                        "select count(shop.place_order('ORD-' || n, n * 7 %% 100 + 1, 'A' || (n * 13 %% 20 + 1), n %% 3 + 1)) from generate_series(%s, %s) n",
                        (first, last),
                    )
                self.placed = last
                return
            except psycopg2.OperationalError:
                threading.Event().wait(0.1)
        raise AssertionError(f"orders {first} to {last} are not placed")

    def states(self):
        return dict(self.place.sql("select state, count(*) from saga.instances group by state"))

    def open(self):
        return self.place.value("select count(*) from saga.instances where ended_at is null")

    def wait_ended(self, limit_s=90):
        def all_ended():
            try:
                return self.open() == 0
            except psycopg2.OperationalError:
                return False

        def what():
            rows = self.place.sql(
                "select i.id, i.state, i.reason, s.step, s.state, s.attempt, s.due_at from saga.instances i join saga.steps s on s.saga_id = i.id"
                " where i.ended_at is null order by i.id, s.step limit 20"
            )
            return f"every saga ended; {self.states()}; open: {rows}"

        wait_until(all_ended, limit_s, what, every_s=0.1)

    def check(self):
        """Every rule of docker/shop/check.sql holds, and every order placed is one saga."""
        rows = self.place.sql(self.text("check"))
        print(f"books: {self.states()} {rows}")
        broken = [row for row in rows if not row[3]]
        assert not broken, f"the books do not balance: {broken}"
        assert self.place.value("select count(*) from shop.orders") == self.placed
        assert self.place.value("select count(*) from saga.instances") == self.placed
