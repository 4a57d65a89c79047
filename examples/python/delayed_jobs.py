"""Delayed jobs: a reminder in an hour, a trial that ends in a month, a check in five minutes.

An exchange of type `x-delayed-message` keeps a message for as long as its header `x-delay` says (in ms, at most some 49
days), and then routes it like an exchange of the type `x-delayed-type`. A persistent message is stored when it is
confirmed, and waits on through restarts. Messages wait in the order of their times, however many there are.

What is delayed must not be mandatory: whether a queue wants it is known only when its time has come, so it would be
returned as unroutable at once (and come nevertheless). The delay is a lower bound: the worker may be busy.

The demonstration: jobs sent in the wrong order come in that of their times, none too early; one without delay comes
at once.
"""

import os
import sys
import time

import pika

EXCHANGE, QUEUE = "examples.delayed", "examples.delayed.jobs"
# Job -> delay in ms, in the order in which they are sent.
JOBS = {"month": 400, "hour": 300, "minute": 200, "now": None, "second": 100}


def connect():
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
    return pika.BlockingConnection(pika.URLParameters(url))


def declare(channel):
    channel.exchange_declare(EXCHANGE, "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
    channel.queue_declare(QUEUE, durable=True)
    channel.queue_bind(QUEUE, EXCHANGE, "job")


def delete(channel):
    channel.exchange_delete(EXCHANGE)
    channel.queue_delete(QUEUE)


def schedule(channel, job, delay_ms):
    properties = pika.BasicProperties(
        delivery_mode=pika.DeliveryMode.Persistent,
        headers={} if delay_ms is None else {"x-delay": delay_ms},
    )
    channel.basic_publish(EXCHANGE, "job", job.encode(), properties)


def work(channel, count):
    """Takes so many jobs, waiting for at most ten seconds. Says when each came."""
    came, deadline = {}, time.monotonic() + 10
    channel.basic_qos(prefetch_count=10)
    for method, _, body in channel.consume(QUEUE, inactivity_timeout=0.05):
        if method is not None:
            came[body.decode()] = time.monotonic()
            channel.basic_ack(method.delivery_tag)
        if len(came) == count or time.monotonic() > deadline:
            break
    channel.cancel()
    return came


def main():
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        delete(channel)  # the demonstration begins with nothing
        declare(channel)

        sent = {}
        for job, delay_ms in JOBS.items():
            sent[job] = time.monotonic()
            schedule(channel, job, delay_ms)
        came = work(channel, len(JOBS))
        delete(channel)

    expect(list(came) == ["now", "second", "minute", "hour", "month"], "the jobs came in the order of their times")
    waited = {job: (came[job] - sent[job]) * 1000 for job in came}
    # The broker counts in whole milliseconds.
    expect(all(waited[job] > (delay or 0) - 1 for job, delay in JOBS.items()), "none came before its time")


def expect(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")
    print(f"seen: {what}")


if __name__ == "__main__":
    main()
