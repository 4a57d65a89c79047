'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Session, closed, openChannel, refused } = require('../session');

test('publishing to a missing exchange closes only that channel', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  const failing = await openChannel(session.connection);
  const closing = closed(failing);
  failing.publish('conformance.missing', 'key', Buffer.from('body'));
  const error = await closing;
  assert.equal(error.code, 404);
  assert.match(error.message, /NOT_FOUND - no exchange 'conformance\.missing' in vhost '\/'/);
  await session.fill(queue, '1');
  assert.equal(await session.ready(queue), 1);
});

test('many channels may fail on one connection', async (t) => {
  const session = await Session.open(t);
  for (let i = 0; i < 20; i++) {
    const channel = await openChannel(session.connection);
    await refused(channel.checkQueue('conformance.missing'), 404, "no queue 'conformance.missing'");
  }
  await session.queue();
});

test('a bad expiration is 406', async (t) => {
  const session = await Session.open(t);
  const closing = closed(session.publisher);
  session.publisher.publish('', 'key', Buffer.from(''), { expiration: 'soon' });
  const error = await closing;
  assert.equal(error.code, 406);
  assert.match(error.message, /invalid expiration 'soon'/);
});

test('a reused consumer tag closes the connection', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.channel.consume(queue, () => {}, { consumerTag: 'tag' });
  const closing = closed(session.connection);
  const again = session.channel.consume(queue, () => {}, { consumerTag: 'tag' });
  await assert.rejects(again);
  const error = await closing;
  assert.equal(error.code, 530);
  assert.match(error.message, /NOT_ALLOWED - attempt to reuse consumer tag 'tag'/);
});
