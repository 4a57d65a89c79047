'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Inbox, Session, address, within } = require('../session');

test('a confirm means that the message is in the queue', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.publish('', queue, 'one', { persistent: true });
  assert.equal(await session.ready(queue), 1);
});

test('every one of many messages is confirmed, and their order kept', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  const bodies = Array.from({ length: 1000 }, (_, i) => `message ${i}`);
  for (const body of bodies) session.publisher.sendToQueue(queue, Buffer.from(body), { persistent: true });
  await within(session.publisher.waitForConfirms(), 'the confirms');
  assert.equal(await session.ready(queue), 1000);
  const inbox = await Inbox.open(session.channel, queue, { noAck: true });
  await inbox.expect(...bodies);
});

test('a mandatory message that is unroutable comes back before its confirm', async (t) => {
  const session = await Session.open(t);
  const events = [];
  session.publisher.on('return', (message) => events.push(message));
  const key = session.name('nowhere');
  await session.publish('amq.direct', key, 'body', { mandatory: true, messageId: 'm' });
  assert.equal(events.length, 1);
  const [{ fields, properties, content }] = events;
  assert.deepEqual({ ...fields }, { replyCode: 312, replyText: 'NO_ROUTE', exchange: 'amq.direct', routingKey: key });
  assert.equal(properties.messageId, 'm');
  assert.equal(content.toString(), 'body');
  await session.publish('amq.direct', key, 'body');
  assert.equal(events.length, 1);
});

for (const size of [0, 1, 131_064, 131_065, 1024 * 1024]) {
  test(`a body of ${size} octets arrives unchanged`, async (t) => {
    const session = await Session.open(t);
    const queue = await session.queue();
    const body = Buffer.alloc(size, '0123456');
    const inbox = await Inbox.open(session.channel, queue, { noAck: true });
    await session.publish('', queue, body);
    assert.ok((await inbox.take()).content.equals(body));
  });
}

test('all properties arrive unchanged', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  const properties = {
    contentType: 'application/json',
    contentEncoding: 'identity',
    deliveryMode: 2,
    priority: 7,
    correlationId: 'correlation',
    replyTo: 'reply.queue',
    expiration: '3600000',
    messageId: 'message-1',
    timestamp: 1_700_000_000,
    type: 'order.created',
    userId: new URL(address()).username,
    appId: 'conformance',
  };
  await session.publish('', queue, '', properties);
  const received = (await session.channel.get(queue, { noAck: true })).properties;
  for (const [name, value] of Object.entries(properties)) assert.equal(received[name], value, name);
});

test('headers of every type arrive unchanged and in order', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  const typed = (type, value) => ({ '!': type, value });
  const exact = {
    string: 'sch\u00f6n \u2603',
    'empty string': '',
    true: true,
    false: false,
    void: null,
    buffer: Buffer.from([0, 255, 0]),
    decimal: typed('decimal', { places: 2, digits: 314 }),
    timestamp: typed('timestamp', 1_700_000_000),
    array: [1, 'two', null, [false], { three: 3 }],
    table: { deep: { deeper: {} } },
  };
  const numbers = {
    byte: typed('byte', -128),
    unsignedbyte: typed('unsignedbyte', 255),
    short: typed('short', -32_768),
    unsignedshort: typed('unsignedshort', 65_535),
    int: typed('int', -2_147_483_648),
    unsignedint: typed('unsignedint', 4_294_967_295),
    long: typed('long', -Number.MAX_SAFE_INTEGER),
    float: typed('float', -1.5),
    double: typed('double', Math.PI),
  };
  await session.publish('', queue, '', { headers: { ...exact, ...numbers } });
  const { headers } = (await session.channel.get(queue, { noAck: true })).properties;
  for (const [name, value] of Object.entries(exact)) assert.deepEqual(headers[name], value, name);
  for (const [name, { value }] of Object.entries(numbers)) assert.equal(headers[name], value, name);
  assert.deepEqual(Object.keys(headers), [...Object.keys(exact), ...Object.keys(numbers)]);
});

test('a delivery names its origin', async (t) => {
  const session = await Session.open(t);
  const exchange = await session.exchange('exchange', 'topic');
  const queue = await session.boundQueue('queue', exchange, '#');
  const inbox = await Inbox.open(session.channel, queue, { consumerTag: 'named' });
  await session.publish(exchange, 'some.key');
  assert.deepEqual({ ...(await inbox.take()).fields }, {
    consumerTag: 'named', deliveryTag: 1, redelivered: false, exchange, routingKey: 'some.key',
  });
});
