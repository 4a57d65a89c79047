"""Transactional outbox: a change in the database and its event happen both or not at all.

A service that commits to its database and then publishes loses the event when it dies in between; one that publishes
first announces what never happens. So the event is a row in the same database, written in the same transaction, and
a relay publishes the rows: it deletes a row only after the broker has confirmed its event.

A relay that dies between the confirm and the deletion publishes again: the event arrives at least once. Its
message id is that of the row, and the consumer remembers the ids in the transaction that handles the event.

The demonstration: three orders, one rolled back, and a relay that dies at the worst moment; the consumer handles
exactly the two committed orders, once each.
"""

import json
import os
import sqlite3
import sys
import tempfile
import time
import uuid

import pika

QUEUE = "examples.outbox.orders"


class RelayDied(Exception):
    pass


def connect():
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
    return pika.BlockingConnection(pika.URLParameters(url))


def place_order(shop, customer, amount):
    with shop:  # one transaction: commits at the end, rolls back when something is raised
        shop.execute("INSERT INTO orders (customer, amount) VALUES (?, ?)", (customer, amount))
        event = json.dumps({"customer": customer, "amount": amount})
        shop.execute("INSERT INTO outbox (message_id, event) VALUES (?, ?)", (str(uuid.uuid4()), event))
        if amount <= 0:
            raise ValueError("the amount must be positive")


def relay(shop, channel, dies=False):
    """Publishes what is in the outbox, oldest first."""
    rows = shop.execute("SELECT id, message_id, event FROM outbox ORDER BY id LIMIT 100").fetchall()
    for number, message_id, event in rows:
        properties = pika.BasicProperties(
            message_id=message_id,
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent,
        )
        # Returns when the broker has confirmed; raises when it refuses or knows no queue for the event.
        channel.basic_publish("", QUEUE, event.encode(), properties, mandatory=True)
        if dies:
            raise RelayDied
        with shop:
            shop.execute("DELETE FROM outbox WHERE id = ?", (number,))


def handle(billing, message_id, event):
    """Bills an order, unless it did so before. Says whether it did."""
    with billing:
        try:
            billing.execute("INSERT INTO handled (message_id) VALUES (?)", (message_id,))
        except sqlite3.IntegrityError:
            return False
        billing.execute("INSERT INTO bills (customer, amount) VALUES (?, ?)", (event["customer"], event["amount"]))
        return True


def consume(billing, channel, expected):
    """Takes `expected` messages; says how many of them were repetitions."""
    repeated, received, deadline = 0, 0, time.monotonic() + 10
    channel.basic_qos(prefetch_count=100)
    for method, properties, body in channel.consume(QUEUE, inactivity_timeout=0.05):
        if method is not None:
            received += 1
            repeated += not handle(billing, properties.message_id, json.loads(body))
            channel.basic_ack(method.delivery_tag)  # after the commit
        if received == expected or time.monotonic() > deadline:
            break
    channel.cancel()
    return repeated


def main():
    with tempfile.TemporaryDirectory() as folder, connect() as connection:
        shop = sqlite3.connect(f"{folder}/shop.db")
        shop.executescript("""
            CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, amount INTEGER);
            CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, message_id TEXT UNIQUE, event TEXT);
        """)
        billing = sqlite3.connect(f"{folder}/billing.db")
        billing.executescript("""
            CREATE TABLE bills (customer TEXT, amount INTEGER);
            CREATE TABLE handled (message_id TEXT PRIMARY KEY);
        """)
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_delete(QUEUE)  # the demonstration begins with nothing
        channel.queue_declare(QUEUE, durable=True)

        place_order(shop, "Ada", 10)
        try:
            place_order(shop, "Bob", -1)
        except ValueError:
            pass  # rolled back, together with its event
        place_order(shop, "Cleo", 30)
        try:
            relay(shop, channel, dies=True)
        except RelayDied:
            pass
        relay(shop, channel)  # the next run
        repeated = consume(billing, channel, expected=3)
        bills = billing.execute("SELECT customer, amount FROM bills ORDER BY customer").fetchall()
        orders = shop.execute("SELECT customer, amount FROM orders ORDER BY customer").fetchall()
        pending = shop.execute("SELECT count(*) FROM outbox").fetchone()[0]
        channel.queue_delete(QUEUE)
        shop.close()
        billing.close()

    expect(orders == [("Ada", 10), ("Cleo", 30)], "the order that was rolled back is not in the shop")
    expect(pending == 0, "the outbox is empty")
    expect(repeated == 1, "the event that the dying relay had published came twice")
    expect(bills == orders, "each order that was committed is billed once")


def expect(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")
    print(f"seen: {what}")


if __name__ == "__main__":
    main()
