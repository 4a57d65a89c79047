"""Dead-letter queue with three retries and exponential back-off; inspection and redrive.

The way that works with every RabbitMQ. A job that fails climbs a ladder of waiting queues: in each it expires after a
time twice as long as in the one before (`x-message-ttl`), and is dead-lettered back to the work queue. After the last
rung it is rejected, and dead-lettered to the queue of the dead, where somebody looks at it.

What it costs: the consumer publishes to the ladder and then acknowledges. If it dies in between, the job is there
twice: handling must be idempotent. With `x-delayed-retry-type` (see delayed_retry) the broker does it, in one step.

The demonstration: a job that fails twice is done at the third attempt; one that always fails is dead after four,
is inspected, and is done after the cause is mended and it is sent back.
"""

import os
import sys
import time

import pika

WORK, DEAD = "examples.retry.work", "examples.retry.dead"
RUNGS = [(f"examples.retry.wait.{ms}", ms) for ms in (100, 200, 400)]


def connect():
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
    return pika.BlockingConnection(pika.URLParameters(url))


def declare(channel):
    to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}
    channel.queue_declare(WORK, durable=True, arguments=to_dead)
    channel.queue_declare(DEAD, durable=True)
    for queue, ms in RUNGS:
        to_work = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": WORK, "x-message-ttl": ms}
        channel.queue_declare(queue, durable=True, arguments=to_work)


def delete(channel):
    for queue in (WORK, DEAD, *(queue for queue, _ in RUNGS)):
        channel.queue_delete(queue)


def publish(channel, queue, body, headers=None):
    properties = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent, headers=headers)
    channel.basic_publish("", queue, body, properties, mandatory=True)


def retry_or_give_up(channel, method, properties, body, error):
    # A header of our own counts: a RabbitMQ since 4.0 does not go on with the x-death of a published message.
    headers = dict(properties.headers or {})
    retries = headers.get("retries", 0)
    if retries == len(RUNGS):
        channel.basic_reject(method.delivery_tag, requeue=False)
        return
    publish(channel, RUNGS[retries][0], body, headers | {"retries": retries + 1, "last-error": str(error)})
    channel.basic_ack(method.delivery_tag)  # not before the copy is confirmed


def consume(channel, handle, until, seconds=10):
    """Handles jobs until `until()` holds, for at most `seconds`."""
    channel.basic_qos(prefetch_count=10)
    deadline = time.monotonic() + seconds
    for method, properties, body in channel.consume(WORK, inactivity_timeout=0.05):
        if method is not None:
            try:
                handle(body.decode())
            except ValueError as error:
                retry_or_give_up(channel, method, properties, body, error)
            else:
                channel.basic_ack(method.delivery_tag)
        if until() or time.monotonic() > deadline:
            break
    channel.cancel()


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def inspect(channel):
    """What is in the queue of the dead, without taking it out: gets all, then puts all back."""
    dead = []
    while (got := channel.basic_get(DEAD))[0] is not None:
        method, properties, body = got
        last = method.delivery_tag
        death = properties.headers["x-death"][0]  # the latest
        dead.append((body.decode(), death["reason"], death["queue"], properties.headers["last-error"]))
    if dead:
        channel.basic_nack(last, multiple=True, requeue=True)
    return dead


def redrive(channel):
    """Sends everything in the queue of the dead back to work, with a new count of retries."""
    while (got := channel.basic_get(DEAD))[0] is not None:
        method, _, body = got
        publish(channel, WORK, body)
        channel.basic_ack(method.delivery_tag)


class Jobs:
    """`flaky` fails twice, `broken` until it is mended. Remembers when each was tried."""

    def __init__(self):
        self.tried, self.done, self.mended = {}, [], False

    def handle(self, job):
        attempts = self.tried.setdefault(job, [])
        attempts.append(time.monotonic())
        if job == "flaky" and len(attempts) <= 2:
            raise ValueError("come back later")
        if job == "broken" and not self.mended:
            raise ValueError("no such address")
        self.done.append(job)

    def waited_ms(self, job):
        attempts = self.tried[job]
        return [(later - earlier) * 1000 for earlier, later in zip(attempts, attempts[1:])]


def main():
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        delete(channel)  # the demonstration begins with nothing
        declare(channel)

        jobs = Jobs()
        publish(channel, WORK, b"flaky")
        publish(channel, WORK, b"broken")
        consume(channel, jobs.handle, until=lambda: count(channel, DEAD) == 1)
        expect(jobs.done == ["flaky"], "what failed twice is done at the third attempt")
        expect(len(jobs.tried.get("broken", [])) == 4, "what always fails is tried four times")
        waits = zip(jobs.waited_ms("broken"), RUNGS)
        # The broker counts in whole milliseconds.
        expect(all(waited > ms - 1 for waited, (_, ms) in waits), "each retry has waited for the time of its rung")
        found = [("broken", "rejected", WORK, "no such address")]
        expect(inspect(channel) == found, "it lies in the queue of the dead, with the reason")
        expect(eventually(lambda: count(channel, DEAD) == 1), "looking at it has not taken it out")

        jobs.mended = True
        redrive(channel)
        consume(channel, jobs.handle, until=lambda: "broken" in jobs.done)
        expect(jobs.done == ["flaky", "broken"], "mended and sent back, it is done")
        expect(count(channel, DEAD) == 0, "the queue of the dead is empty")
        delete(channel)


def eventually(condition, seconds=5):
    """A broker may count what was requeued a moment later."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def expect(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")
    print(f"seen: {what}")


if __name__ == "__main__":
    main()
