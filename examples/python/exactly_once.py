"""Exactly-once publishing, and an idempotent consumer: together, each transfer changes the account exactly once.

Publishing: the exchange remembers the ids of messages (`x-message-deduplication`). A publisher that does not know what
arrived (a crash, a lost connection) publishes it again with the same ids; what was there already is confirmed again and
dropped. The id comes from the data, not from the attempt: here it is the number of the transfer.

Consuming: a message is delivered again when its consumer dies before the acknowledgement. The consumer keeps the id in
the same database transaction as the effect, and recognizes the repetition.

The demonstration: the publisher dies and begins again where it last noted its progress; the consumer dies between its
commit and its acknowledgement. Each of the 100 transfers counts once.
"""

import os
import sqlite3
import sys
import tempfile
import time

import pika

EXCHANGE, QUEUE = "examples.transfers", "examples.transfers.account"
TRANSFERS = range(1, 101)  # number n moves n euros


class Crash(Exception):
    pass


def connect():
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
    return pika.BlockingConnection(pika.URLParameters(url))


def declare(channel):
    remember = {
        "x-message-deduplication": True,
        "x-cache-size": 10_000,  # how many ids, and
        "x-cache-ttl": 3_600_000,  # how long in ms: longer than a publisher may need to come back
    }
    channel.exchange_declare(EXCHANGE, "direct", durable=True, arguments=remember)
    channel.queue_declare(QUEUE, durable=True)
    channel.queue_bind(QUEUE, EXCHANGE, "account")


def delete(channel):
    channel.exchange_delete(EXCHANGE)
    channel.queue_delete(QUEUE)


class Publisher:
    """Publishes transfers in order. `progress` stands for what it has written to its own disk."""

    def __init__(self):
        self.progress, self.published = 0, 0

    def run(self, crash_after=None):
        with connect() as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for number in TRANSFERS[self.progress :]:
                properties = pika.BasicProperties(
                    delivery_mode=pika.DeliveryMode.Persistent,
                    headers={"x-deduplication-header": f"transfer-{number}"},
                )
                channel.basic_publish(EXCHANGE, "account", str(number).encode(), properties, mandatory=True)
                self.published += 1
                if number == crash_after:
                    raise Crash
                if number % 20 == 0:
                    self.progress = number  # all of them are confirmed


class Account:
    """A consumer with its database."""

    def __init__(self, path):
        self.database = sqlite3.connect(path)
        with self.database:
            self.database.execute("CREATE TABLE IF NOT EXISTS balance (euros INTEGER)")
            self.database.execute("CREATE TABLE IF NOT EXISTS handled (id TEXT PRIMARY KEY)")
            if self.balance() is None:
                self.database.execute("INSERT INTO balance VALUES (0)")
        self.repeated = 0

    def balance(self):
        row = self.database.execute("SELECT euros FROM balance").fetchone()
        return row and row[0]

    def handle(self, transfer, euros):
        try:
            with self.database:  # the id and the effect in one transaction
                self.database.execute("INSERT INTO handled VALUES (?)", (transfer,))
                self.database.execute("UPDATE balance SET euros = euros + ?", (euros,))
        except sqlite3.IntegrityError:
            self.repeated += 1  # handled before

    def run(self, until, crash_after=None):
        """Handles transfers until the one numbered `until`, waiting for at most ten seconds."""
        deadline = time.monotonic() + 10
        with connect() as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=10)
            for method, properties, body in channel.consume(QUEUE, inactivity_timeout=0.05):
                if method is not None:
                    self.handle(properties.headers["x-deduplication-header"], int(body))
                    if int(body) == crash_after:
                        raise Crash
                    channel.basic_ack(method.delivery_tag)
                    if int(body) == until:
                        break
                if time.monotonic() > deadline:
                    break
            channel.cancel()


def main():
    with tempfile.TemporaryDirectory() as folder, connect() as connection:
        channel = connection.channel()
        delete(channel)  # the demonstration begins with nothing
        declare(channel)

        publisher = Publisher()
        crashes(lambda: publisher.run(crash_after=50))
        publisher.run()
        waiting = channel.queue_declare(QUEUE, passive=True).method.message_count
        expect(publisher.published == 110, "the publisher has repeated ten transfers")
        expect(waiting == len(TRANSFERS), "each transfer is in the queue once")

        path = f"{folder}/account.db"
        crashes(lambda: Account(path).run(until=100, crash_after=30))
        account = Account(path)
        account.run(until=100)
        balance = account.balance()
        account.database.close()
        expect(account.repeated == 1, "the consumer got one transfer a second time")
        expect(balance == sum(TRANSFERS), "each transfer has changed the account once")
        delete(channel)


def crashes(run):
    try:
        run()
    except Crash:
        return
    sys.exit("not so: it was to crash")


def expect(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")
    print(f"seen: {what}")


if __name__ == "__main__":
    main()
