"""Sends orders: durable topology, persistent JSON messages, confirmed by the broker.

Usage: orders_producer.py AMOUNT...    (one order for each amount)
"""

import json
import os
import sys

import pika

EXCHANGE = os.environ.get("ORDERS_EXCHANGE", "orders")
QUEUE = os.environ.get("ORDERS_QUEUE", "orders")
ROUTING_KEY = "order.created"


def main():
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.exchange_declare(exchange=EXCHANGE, exchange_type="direct", durable=True)
    channel.queue_declare(queue=QUEUE, durable=True)
    channel.queue_bind(queue=QUEUE, exchange=EXCHANGE, routing_key=ROUTING_KEY)
    channel.confirm_delivery()

    for number, amount in enumerate(sys.argv[1:], start=1):
        order = {"id": number, "amount": float(amount)}
        channel.basic_publish(
            exchange=EXCHANGE,
            routing_key=ROUTING_KEY,
            body=json.dumps(order).encode(),
            properties=pika.BasicProperties(
                content_type="application/json",
                delivery_mode=pika.DeliveryMode.Persistent,
            ),
            mandatory=True,
        )
        print(f"sent order {number}", flush=True)

    connection.close()


if __name__ == "__main__":
    main()
