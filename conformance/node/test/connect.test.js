'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const amqplib = require('amqplib');
const { Session, address, connect, openChannel, within } = require('../session');

test('the server introduces itself with the nine capabilities', async (t) => {
  const { connection } = await Session.open(t);
  const { product, version, platform, capabilities } = connection.connection.serverProperties;
  for (const property of [product, version, platform]) assert.equal(typeof property, 'string');
  assert.match(version, /^\d+\.\d+/);
  const expected = [
    'publisher_confirms', 'exchange_exchange_bindings', 'basic.nack',
    'consumer_cancel_notify', 'connection.blocked', 'consumer_priorities',
    'authentication_failure_close', 'per_consumer_qos', 'direct_reply_to',
  ];
  for (const name of expected) assert.equal(capabilities[name], true, name);
});

test('a wrong password is refused with 403', async () => {
  const connecting = amqplib.connect(address({ password: 'wrong' }));
  await assert.rejects(within(connecting, 'a refusal'), /403 \(ACCESS-REFUSED\).*ACCESS_REFUSED/);
});

test('a missing vhost is refused with 530', async () => {
  const connecting = amqplib.connect(address({ pathname: '/no-such-vhost' }));
  // The client does not decode this close, it only shows the frame that it did not expect.
  await assert.rejects(within(connecting, 'a refusal'), /Expected ConnectionOpenOk; got <ConnectionClose/);
});

test('the smallest frame size is accepted and used', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  const url = new URL(address());
  url.searchParams.set('frameMax', '4096');
  const connection = await connect(url.toString());
  assert.equal(connection.connection.frameMax, 4096);
  const channel = await openChannel(connection);
  const body = Buffer.alloc(20_000, '0123456789');
  channel.sendToQueue(queue, body);
  const message = await channel.get(queue, { noAck: true });
  assert.deepEqual(message.content, body);
  await connection.close();
});

test('one connection carries many channels', async (t) => {
  const session = await Session.open(t);
  const queue = await session.queue();
  for (let i = 0; i < 50; i++) {
    const channel = await openChannel(session.connection, 'createConfirmChannel');
    channel.sendToQueue(queue, Buffer.from('x'));
    await within(channel.waitForConfirms(), 'a confirm');
  }
  assert.equal(await session.ready(queue), 50);
});

test('a secret can be updated', async (t) => {
  const session = await Session.open(t);
  const secret = Buffer.from(decodeURIComponent(new URL(address()).password));
  await within(session.connection.updateSecret(secret, 'rotation'), 'connection.update-secret-ok');
  await session.queue();
});

test('a closed connection opens no channel', async () => {
  const connection = await connect();
  await connection.close();
  await assert.rejects(async () => connection.createChannel(), /closed/i);
});
