'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Inbox, Session, openChannel, refused } = require('../session');

test('the default exchange routes by queue name', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.publish('', queue);
  assert.equal(await session.ready(queue), 1);
});

test('a direct exchange routes by equal key', async (t) => {
  const session = await Session.open(t);
  const exchange = await session.exchange('exchange', 'direct');
  const red = await session.boundQueue('red', exchange, 'red');
  const both = await session.boundQueue('both', exchange, 'red');
  await session.channel.bindQueue(both, exchange, 'blue');
  for (const key of ['red', 'blue', 'RED']) await session.publish(exchange, key);
  assert.equal(await session.ready(red), 1);
  assert.equal(await session.ready(both), 2);
});

test('a fanout exchange routes to every queue', async (t) => {
  const session = await Session.open(t);
  const exchange = await session.exchange('exchange', 'fanout');
  const one = await session.boundQueue('one', exchange, 'ignored');
  const two = await session.boundQueue('two', exchange);
  await session.publish(exchange, 'another');
  assert.equal(await session.ready(one), 1);
  assert.equal(await session.ready(two), 1);
});

for (const [pattern, matching, others] of [
  ['log.*', ['log.info', 'log.'], ['log', 'log.info.disk']],
  ['log.#', ['log', 'log.info', 'log.info.disk'], ['xlog', '']],
  ['*.disk.#', ['a.disk', 'a.disk.b.c'], ['disk', 'a.b.disk']],
  ['#', ['', 'a', 'a.b'], []],
]) {
  test(`a topic exchange matches ${pattern}`, async (t) => {
    const session = await Session.open(t);
    const exchange = await session.exchange('exchange', 'topic');
    const queue = await session.boundQueue('queue', exchange, pattern);
    for (const key of [...matching, ...others]) await session.publish(exchange, key, key);
    assert.equal(await session.ready(queue), matching.length);
    const inbox = await Inbox.open(session.channel, queue, { noAck: true });
    await inbox.expect(...matching);
  });
}

for (const [match, headers, arrives] of [
  ['all', { a: 1, b: 'two', c: true }, 1],
  ['all', { a: 1 }, 0],
  ['any', { a: 1 }, 1],
  ['any', { a: 2 }, 0],
]) {
  test(`a headers exchange matches ${match} of ${JSON.stringify(headers)}`, async (t) => {
    const session = await Session.open(t);
    const exchange = await session.exchange('exchange', 'headers');
    const queue = await session.boundQueue('queue', exchange, '', { 'x-match': match, a: 1, b: 'two' });
    await session.publish(exchange, '', '', { headers });
    assert.equal(await session.ready(queue), arrives);
  });
}

test('exchanges bind to exchanges', async (t) => {
  const session = await Session.open(t);
  const source = await session.exchange('source', 'topic');
  const destination = await session.exchange('destination', 'fanout');
  const queue = await session.boundQueue('queue', destination);
  await session.channel.bindExchange(destination, source, 'log.#');
  await session.publish(source, 'log.info');
  await session.publish(source, 'other');
  assert.equal(await session.ready(queue), 1);
  await session.channel.unbindExchange(destination, source, 'log.#');
  await session.publish(source, 'log.info');
  assert.equal(await session.ready(queue), 1);
});

test('the alternate exchange takes what is unroutable', async (t) => {
  const session = await Session.open(t);
  const alternateExchange = await session.exchange('alternate', 'fanout');
  const exchange = await session.exchange('exchange', 'direct', { alternateExchange });
  const rest = await session.boundQueue('rest', alternateExchange);
  await session.publish(exchange, 'unknown');
  assert.equal(await session.ready(rest), 1);
});

test('unbinding stops the flow', async (t) => {
  const session = await Session.open(t);
  const exchange = await session.exchange('exchange', 'direct');
  const queue = await session.boundQueue('queue', exchange, 'key');
  await session.publish(exchange, 'key');
  await session.channel.unbindQueue(queue, exchange, 'key');
  await session.publish(exchange, 'key');
  assert.equal(await session.ready(queue), 1);
});

test('redeclaring an equal queue counts its messages and consumers', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.fill(queue, '1', '2');
  await session.channel.prefetch(1);
  await (await Inbox.open(session.channel, queue)).take();
  const declared = await session.channel.assertQueue(queue, { durable: true });
  assert.deepEqual({ ...declared }, { queue, messageCount: 1, consumerCount: 1 });
});

test('redeclaring an unequal queue is 406', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await refused(
    session.channel.assertQueue(queue, { durable: true, autoDelete: true }), 406,
    `PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '${queue}' in vhost '/': received 'true' but current is 'false'`,
  );
});

test('redeclaring a queue with another argument is 406', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue('queue', { messageTtl: 60_000 });
  await session.queue('queue', { messageTtl: 60_000 });
  await refused(
    session.channel.assertQueue(queue, { durable: true, messageTtl: 1 }), 406,
    `inequivalent arg 'x-message-ttl' for queue '${queue}'`,
  );
});

test('redeclaring an unequal exchange is 406', async (t) => {
  const session = await Session.open(t);
  const exchange = await session.exchange('exchange', 'direct');
  await refused(
    session.channel.assertExchange(exchange, 'fanout'), 406,
    `inequivalent arg 'type' for exchange '${exchange}' in vhost '/': received 'fanout' but current is 'direct'`,
  );
});

test('a passive declare of something missing is 404', async (t) => {
  const session = await Session.open(t);
  await refused(session.channel.checkQueue('conformance.missing'), 404,
    "NOT_FOUND - no queue 'conformance.missing' in vhost '/'");
  const channel = await openChannel(session.connection);
  await refused(channel.checkExchange('conformance.missing'), 404,
    "NOT_FOUND - no exchange 'conformance.missing' in vhost '/'");
});

test('deleting counts, and takes conditions', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.fill(queue, '1', '2', '3');
  const channel = await openChannel(session.connection);
  await refused(channel.deleteQueue(queue, { ifEmpty: true }), 406, `queue '${queue}' in vhost '/' not empty`);
  assert.equal((await session.channel.purgeQueue(queue)).messageCount, 3);
  await session.fill(queue, '4');
  assert.equal((await session.channel.deleteQueue(queue, { ifUnused: true })).messageCount, 1);
  assert.equal((await session.channel.deleteQueue(queue)).messageCount, 0);
});

test('a reserved name is 403', async (t) => {
  const session = await Session.open(t);
  await refused(session.channel.assertQueue('amq.conformance'), 403,
    "queue name 'amq.conformance' contains reserved prefix 'amq.*'");
});
