'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Inbox, Session, connect, eventually, openChannel, refused } = require('../session');

test('an exclusive queue is locked, and goes with its connection', async (t) => {
  const session = await Session.open(t);
  const owner = await connect();
  const queue = session.name('exclusive');
  await (await openChannel(owner)).assertQueue(queue, { exclusive: true });
  await refused(session.channel.checkQueue(queue), 405,
    `RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '${queue}' in vhost '/'`);
  await owner.close();
  assert.equal(await session.exists(queue), false);
});

test('a lost connection returns its messages', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.fill(queue, '1');
  const lost = await connect();
  await (await openChannel(lost)).get(queue);
  lost.connection.stream.destroy(new Error('cut off'));
  await eventually('the message comes back', async () => (await session.ready(queue)) === 1);
  assert.equal((await session.channel.get(queue)).fields.redelivered, true);
});

test('an auto-delete queue goes with its last consumer', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue('queue', { autoDelete: true });
  assert.equal(await session.exists(queue), true);
  const [one, two] = [await Inbox.open(session.channel, queue), await Inbox.open(session.channel, queue)];
  await session.channel.cancel(one.tag);
  assert.equal(await session.exists(queue), true);
  await session.channel.cancel(two.tag);
  await eventually('the queue goes', async () => !(await session.exists(queue)));
});

test('an auto-delete exchange goes with its last binding', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  const exchange = await session.exchange('exchange', 'fanout', { autoDelete: true });
  await session.channel.bindQueue(queue, exchange, '');
  await session.channel.unbindQueue(queue, exchange, '');
  await refused(session.channel.checkExchange(exchange), 404, `no exchange '${exchange}'`);
});

test('the server names a queue that has no name', async (t) => {
  const session = await Session.open(t);
  const first = await session.channel.assertQueue('', { exclusive: true });
  const second = await session.channel.assertQueue('', { exclusive: true });
  assert.match(first.queue, /^amq\.gen-/);
  assert.match(second.queue, /^amq\.gen-/);
  assert.notEqual(first.queue, second.queue);
  // An empty name stands for the queue declared last on the channel.
  await session.channel.bindQueue('', 'amq.direct', 'conformance');
  await session.publish('amq.direct', 'conformance', 'body');
  assert.equal(await session.ready(first.queue), 0);
  assert.equal(await session.ready(second.queue), 1);
});
