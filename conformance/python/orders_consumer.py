"""Handles orders one at a time until it is interrupted.

A handled order is acknowledged. One that cannot be handled is refused without
requeueing, so that it does not come back forever.
"""

import json
import os

import pika

EXCHANGE = os.environ.get("ORDERS_EXCHANGE", "orders")
QUEUE = os.environ.get("ORDERS_QUEUE", "orders")
ROUTING_KEY = "order.created"


def handle(order):
    if order["amount"] <= 0:
        raise ValueError("the amount must be positive")
    print(f"handled order {order['id']}", flush=True)


def on_message(channel, method, properties, body):
    try:
        handle(json.loads(body))
    except (ValueError, KeyError) as error:
        print(f"refused an order: {error}", flush=True)
        channel.basic_nack(delivery_tag=method.delivery_tag, requeue=False)
    else:
        channel.basic_ack(delivery_tag=method.delivery_tag)


def main():
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.exchange_declare(exchange=EXCHANGE, exchange_type="direct", durable=True)
    channel.queue_declare(queue=QUEUE, durable=True)
    channel.queue_bind(queue=QUEUE, exchange=EXCHANGE, routing_key=ROUTING_KEY)
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue=QUEUE, on_message_callback=on_message)
    print("waiting for orders", flush=True)
    try:
        channel.start_consuming()
    except KeyboardInterrupt:
        channel.stop_consuming()
    connection.close()


if __name__ == "__main__":
    main()
