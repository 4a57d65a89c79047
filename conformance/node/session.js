// Connections, names and waiting, shared by all amqplib conformance tests.
'use strict';

const assert = require('node:assert/strict');
const { randomBytes } = require('node:crypto');
const amqplib = require('amqplib');

const URL_OF_BROKER = process.env.AMQP_URL || 'amqp://guest:guest@127.0.0.1:5672/';
const WAIT_MS = 10_000;

/** Rejects when `promise` takes too long. */
async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${WAIT_MS} ms in vain: ${what}`)), WAIT_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Polls what the broker does on its own, for which it sends no reply. */
async function eventually(what, condition) {
  const deadline = Date.now() + WAIT_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `waited ${WAIT_MS} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The broker's address with some of its parts replaced. */
function address(changes = {}) {
  return Object.assign(new URL(URL_OF_BROKER), changes).toString();
}

async function connect(url = address()) {
  const connection = await within(amqplib.connect(url, { noDelay: true }), 'connect');
  connection.on('error', () => {}); // awaited where a test expects one
  return connection;
}

async function openChannel(connection, kind = 'createChannel') {
  const channel = await within(connection[kind](), 'channel.open-ok');
  channel.on('error', () => {});
  return channel;
}

/** A connection with channels, and unique names that are deleted after the test. */
class Session {
  static async open(t) {
    const session = new Session();
    session.prefix = `conformance.node.${randomBytes(6).toString('hex')}`;
    session.queues = [];
    session.exchanges = [];
    session.connection = await connect();
    t.after(() => session.close());
    session.channel = await openChannel(session.connection);
    session.publisher = await openChannel(session.connection, 'createConfirmChannel');
    return session;
  }

  name(suffix) {
    return `${this.prefix}.${suffix}`;
  }

  /** A durable queue. */
  async queue(suffix = 'queue', options = {}) {
    const { queue } = await this.channel.assertQueue(this.name(suffix), { durable: true, ...options });
    this.queues.push(queue);
    return queue;
  }

  /** A durable exchange. */
  async exchange(suffix, type, options = {}) {
    const { exchange } = await this.channel.assertExchange(this.name(suffix), type, options);
    this.exchanges.push(exchange);
    return exchange;
  }

  async boundQueue(suffix, exchange, key = '', args = {}) {
    const queue = await this.queue(suffix);
    await this.channel.bindQueue(queue, exchange, key, args);
    return queue;
  }

  /** Publishes and waits for the confirm: the message is in its queues. */
  publish(exchange, key, body = '', options = {}) {
    const confirmed = new Promise((resolve, reject) => {
      this.publisher.publish(exchange, key, Buffer.from(body), options, (error) => (error ? reject(error) : resolve()));
    });
    return within(confirmed, 'a confirm');
  }

  async fill(queue, ...bodies) {
    for (const body of bodies) await this.publish('', queue, body);
  }

  /** The number of messages that wait for a consumer. */
  async ready(queue) {
    return (await within(this.publisher.checkQueue(queue), 'queue.declare-ok')).messageCount;
  }

  /** Whether a queue exists, asked on a channel of its own, which a 404 closes. */
  async exists(queue) {
    const channel = await openChannel(this.connection);
    try {
      await channel.checkQueue(queue);
      await channel.close();
      return true;
    } catch (error) {
      assert.equal(error.code, 404);
      return false;
    }
  }

  async reopen() {
    await this.channel.close();
    this.channel = await openChannel(this.connection);
  }

  async close() {
    await this.connection.close().catch(() => {}); // some tests have it closed by the broker
    const connection = await connect();
    const channel = await openChannel(connection);
    for (const queue of this.queues) await channel.deleteQueue(queue);
    for (const exchange of this.exchanges) await channel.deleteExchange(exchange);
    await connection.close();
  }
}

/** A consumer that collects its messages, to be taken one by one. */
class Inbox {
  static async open(channel, queue, options = {}) {
    const inbox = new Inbox();
    inbox.messages = [];
    inbox.takers = [];
    const arrived = (message) => {
      const taker = inbox.takers.shift();
      if (taker) taker(message);
      else inbox.messages.push(message);
    };
    const consuming = channel.consume(queue, arrived, options);
    inbox.tag = (await within(consuming, 'basic.consume-ok')).consumerTag;
    return inbox;
  }

  /** The next message; null when the broker cancels the consumer. */
  take() {
    if (this.messages.length > 0) return Promise.resolve(this.messages.shift());
    return within(new Promise((resolve) => this.takers.push(resolve)), 'a delivery');
  }

  async expect(...bodies) {
    const received = [];
    for (const body of bodies) {
      const message = await this.take();
      assert.equal(message.content.toString(), body);
      received.push(message);
    }
    return received;
  }
}

/** Expects that the broker closes the channel because of this operation. */
function refused(operation, code, text) {
  return assert.rejects(within(operation, `a close with code ${code}`), (error) => {
    assert.equal(error.code, code, error.message);
    assert.ok(error.message.includes(text), error.message);
    return true;
  });
}

/** The error with which the broker closes a channel or a connection. */
function closed(emitter) {
  return within(new Promise((resolve) => emitter.once('error', resolve)), 'a close');
}

module.exports = { Inbox, Session, address, closed, connect, eventually, openChannel, refused, within };
