"""What a client of the container does, one step for each call: see run.sh."""

import argparse
import sys

import pika

QUEUE = "orders"


def connect(args, user, password):
    parameters = pika.ConnectionParameters(
        "127.0.0.1",
        args.port,
        args.vhost,
        pika.PlainCredentials(user, password),
        socket_timeout=30,
        stack_timeout=30,
        blocked_connection_timeout=30,
    )
    return pika.BlockingConnection(parameters)


def bodies(count):
    return [f"order {number}".encode() for number in range(count)]


def publish(channel, count):
    channel.queue_declare(QUEUE, durable=True)
    channel.confirm_delivery()
    persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
    for body in bodies(count):
        channel.basic_publish("", QUEUE, body, persistent, mandatory=True)


def expect(channel, count):
    """All messages are there and in order; they are left where they are."""
    found = []
    for _ in range(count):
        _, _, body = channel.basic_get(QUEUE)
        found.append(body)
    assert found == bodies(count), f"{len(found)} messages, the first {found[:3]}"
    assert channel.basic_get(QUEUE)[0] is None, "more messages than were published"
    channel.basic_recover(requeue=True)


def consume(channel, count):
    for body in bodies(count):
        method, _, found = channel.basic_get(QUEUE)
        assert found == body, found
        channel.basic_ack(method.delivery_tag)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--vhost", required=True)
    parser.add_argument("step", choices=["refuse-guest", "publish", "expect", "consume"])
    parser.add_argument("count", type=int, nargs="?", default=0)
    args = parser.parse_args()

    if args.step == "refuse-guest":
        try:
            connect(args, "guest", "guest")
        except pika.exceptions.ProbableAuthenticationError:
            return
        sys.exit("guest is let in")

    step = {"publish": publish, "expect": expect, "consume": consume}[args.step]
    connection = connect(args, args.user, args.password)
    step(connection.channel(), args.count)
    connection.close()


main()
