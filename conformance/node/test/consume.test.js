'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Inbox, Session, closed, openChannel, refused } = require('../session');

test('acknowledged messages are gone, the others come back in order', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.fill(queue, '1', '2', '3', '4');
  const inbox = await Inbox.open(session.channel, queue);
  const messages = await inbox.expect('1', '2', '3', '4');
  session.channel.ack(messages[1]);
  await session.reopen();
  const again = await Inbox.open(session.channel, queue);
  for (const message of await again.expect('1', '3', '4')) assert.ok(message.fields.redelivered);
});

test('one acknowledgement covers all up to its tag', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.fill(queue, '1', '2', '3');
  const [, second] = await (await Inbox.open(session.channel, queue)).expect('1', '2', '3');
  session.channel.ack(second, true);
  await session.reopen();
  assert.equal((await session.channel.get(queue)).content.toString(), '3');
});

test('everything outstanding can be acknowledged at once', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.fill(queue, '1', '2');
  await (await Inbox.open(session.channel, queue)).expect('1', '2');
  session.channel.ackAll();
  await session.reopen();
  assert.equal(await session.ready(queue), 0);
});

for (const [name, requeue] of [
  ['nack', (channel, message) => channel.nack(message)],
  ['reject', (channel, message) => channel.reject(message)],
]) {
  test(`after ${name} a message comes again as redelivered`, async (t) => {
    const session = await Session.open(t);
    const queue = await session.queue();
    await session.fill(queue, '1');
    const inbox = await Inbox.open(session.channel, queue);
    const first = await inbox.take();
    assert.equal(first.fields.redelivered, false);
    requeue(session.channel, first);
    const second = await inbox.take();
    assert.equal(second.fields.redelivered, true);
    assert.equal(second.content.toString(), '1');
  });
}

for (const [name, refuse] of [
  ['nack', (channel, message) => channel.nack(message, false, false)],
  ['reject', (channel, message) => channel.reject(message, false)],
]) {
  test(`after ${name} without requeue a message is gone`, async (t) => {
    const session = await Session.open(t);
    const queue = await session.queue();
    await session.fill(queue, '1', '2');
    refuse(session.channel, await session.channel.get(queue));
    await session.reopen();
    assert.equal((await session.channel.get(queue)).content.toString(), '2');
  });
}

test('one nack requeues everything in order', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.fill(queue, '1', '2', '3');
  await session.channel.get(queue);
  await session.channel.get(queue);
  session.channel.nackAll();
  await (await Inbox.open(session.channel, queue)).expect('1', '2', '3');
});

test('recover redelivers everything outstanding', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.fill(queue, '1', '2');
  const inbox = await Inbox.open(session.channel, queue);
  await inbox.expect('1', '2');
  await session.channel.recover();
  for (const message of await inbox.expect('1', '2')) assert.ok(message.fields.redelivered);
});

test('an unknown delivery tag is 406', async (t) => {
  const session = await Session.open(t);
  const closing = closed(session.channel);
  session.channel.ack({ fields: { deliveryTag: 99 } });
  const error = await closing;
  assert.equal(error.code, 406);
  assert.match(error.message, /PRECONDITION_FAILED - unknown delivery tag 99/);
});

test('prefetch limits what is outstanding, for each consumer', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.fill(queue, '1', '2', '3', '4', '5');
  await session.channel.prefetch(1);
  const one = await Inbox.open(session.channel, queue);
  await session.channel.prefetch(2);
  const two = await Inbox.open(session.channel, queue);
  const [first] = await one.expect('1');
  await two.expect('2', '3');
  assert.equal(await session.ready(queue), 2);
  session.channel.ack(first);
  await one.expect('4');
  assert.equal(await session.ready(queue), 1);
});

test('global prefetch is shared by the consumers of a channel', async (t) => {
  const session = await Session.open(t);
  const { platform, version } = session.connection.connection.serverProperties;
  const [major, minor] = version.split('.').map(Number);
  if (platform.startsWith('Erlang') && (major > 4 || (major === 4 && minor >= 3))) {
    return t.skip('RabbitMQ 4.3 denies the deprecated feature global_qos');
  }
  const [one, two] = [await session.queue('one'), await session.queue('two')];
  await session.fill(one, '1', '2');
  await session.fill(two, '3', '4');
  await session.channel.prefetch(3, true);
  const [first] = await (await Inbox.open(session.channel, one)).expect('1', '2');
  const second = await Inbox.open(session.channel, two);
  await second.expect('3');
  assert.equal(await session.ready(two), 1);
  session.channel.ack(first);
  await second.expect('4');
});

test('a cancelled consumer keeps what it has', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.fill(queue, '1');
  const inbox = await Inbox.open(session.channel, queue);
  const first = await inbox.take();
  await session.channel.cancel(inbox.tag);
  await session.fill(queue, '2');
  assert.equal(await session.ready(queue), 1);
  session.channel.ack(first);
  await session.reopen();
  assert.equal(await session.ready(queue), 1);
});

test('an exclusive consumer keeps others out', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await Inbox.open(session.channel, queue, { exclusive: true });
  const other = await openChannel(session.connection);
  await refused(other.consume(queue, () => {}), 403,
    `ACCESS_REFUSED - queue '${queue}' in vhost '/' in exclusive use`);
});

test('consumers of higher priority come first', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  const low = await Inbox.open(session.channel, queue, { noAck: true });
  await session.channel.prefetch(1);
  const high = await Inbox.open(session.channel, queue, { priority: 10 });
  await session.fill(queue, '1', '2');
  await high.expect('1');
  await low.expect('2');
});

test('deleting the queue cancels its consumers', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  const inbox = await Inbox.open(session.channel, queue);
  await session.publisher.deleteQueue(queue);
  assert.equal(await inbox.take(), null);
  await session.channel.checkExchange('amq.direct'); // the channel is still open
});

test('get counts what is left, and tells an empty queue', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  await session.fill(queue, '1', '2');
  for (const left of [1, 0]) {
    const message = await session.channel.get(queue);
    assert.equal(message.fields.messageCount, left);
    session.channel.ack(message);
  }
  assert.equal(await session.channel.get(queue), false);
});
