"""Work queue: jobs are shared among workers, and the job of a worker that dies goes to another.

The queue is durable, the jobs are persistent and confirmed, so that a restart of the broker loses none.
`prefetch_count=1` gives a worker one job at a time, so that a slow job does not hold up others behind it.
A job is acknowledged when it is done: what was not acknowledged is delivered again.

The demonstration: three workers, of which one dies with its first job; all jobs are done nevertheless.
"""

import os
import queue
import sys
import threading
import time

import pika

QUEUE = "examples.work_queue"
JOBS = [f"job {number}" for number in range(1, 31)]


def connect():
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
    return pika.BlockingConnection(pika.URLParameters(url))


def publish(jobs):
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()  # from here on basic_publish returns when the broker has the job, or raises
        persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
        for job in jobs:
            channel.basic_publish("", QUEUE, job.encode(), persistent, mandatory=True)


class Worker(threading.Thread):
    """Does jobs until `stop` is set. A connection of pika belongs to one thread: each worker has its own."""

    def __init__(self, name, done, stop, dies=False):
        super().__init__(name=name)
        self.ready = threading.Event()
        self.done, self.stop, self.dies = done, stop, dies

    def run(self):
        with connect() as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=1)
            # The timeout lets the loop see `stop`; a service sets that in its handler of SIGTERM.
            for method, _, body in channel.consume(QUEUE, inactivity_timeout=0.05):
                self.ready.set()
                if method is not None:
                    if self.dies:
                        return  # the connection closes without an acknowledgement
                    self.work(body.decode(), method.redelivered)
                    channel.basic_ack(method.delivery_tag)
                if self.stop.is_set():
                    break
            channel.cancel()  # puts back what was delivered and not begun

    def work(self, job, again):
        time.sleep(0.01)
        self.done.put((job, self.name, again))


def main():
    with connect() as connection:
        channel = connection.channel()
        channel.queue_delete(QUEUE)  # the demonstration begins with nothing
        channel.queue_declare(QUEUE, durable=True)

        done, stop = queue.Queue(), threading.Event()
        workers = [Worker(name, done, stop, dies=name == "dying") for name in ("dying", "first", "second")]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.ready.wait(10)
        publish(JOBS)
        try:
            results = [done.get(timeout=10) for _ in JOBS]
        except queue.Empty:
            results = []
        stop.set()
        for worker in workers:
            worker.join()
        left = channel.queue_declare(QUEUE, passive=True).method.message_count
        channel.queue_delete(QUEUE)

    expect(sorted(job for job, _, _ in results) == sorted(JOBS), "every job is done once")
    expect({name for _, name, _ in results} == {"first", "second"}, "both living workers have worked")
    expect(sum(again for _, _, again in results) == 1, "the job of the dead worker came again, marked redelivered")
    expect(left == 0, "nothing is left in the queue")


def expect(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")
    print(f"seen: {what}")


if __name__ == "__main__":
    main()
