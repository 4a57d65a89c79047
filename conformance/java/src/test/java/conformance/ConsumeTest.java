package conformance;

import static conformance.Session.await;
import static conformance.Session.closing;
import static conformance.Session.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import conformance.Session.Inbox;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ConsumeTest {
  private Session session;
  private Channel channel;
  private String queue;

  @BeforeEach
  void open() throws Exception {
    session = new Session();
    channel = session.channel;
    queue = session.queue();
  }

  @AfterEach
  void close() throws Exception {
    session.close();
  }

  private static long tag(Delivery delivery) {
    return delivery.getEnvelope().getDeliveryTag();
  }

  @Test
  void acknowledgedMessagesAreGoneAndTheOthersComeBackInOrder() throws Exception {
    session.fill(queue, "1", "2", "3", "4");
    var deliveries = new Inbox(channel, queue, false).expect("1", "2", "3", "4");
    channel.basicAck(tag(deliveries.get(1)), false);
    channel.close();
    var again = new Inbox(session.connection.createChannel(), queue, false);
    for (Delivery delivery : again.expect("1", "3", "4")) {
      assertTrue(delivery.getEnvelope().isRedeliver());
    }
  }

  @Test
  void oneAcknowledgementCoversAllUpToItsTag() throws Exception {
    session.fill(queue, "1", "2", "3");
    var deliveries = new Inbox(channel, queue, false).expect("1", "2", "3");
    channel.basicAck(tag(deliveries.get(1)), true);
    channel.close();
    assertEquals("3", session.getBody(queue));
  }

  private void refuse(String method, long tag, boolean requeue) throws Exception {
    if (method.equals("nack")) channel.basicNack(tag, false, requeue);
    else channel.basicReject(tag, requeue);
  }

  @ParameterizedTest
  @ValueSource(strings = {"nack", "reject"})
  void aRequeuedMessageComesAgainAsRedelivered(String method) throws Exception {
    session.fill(queue, "1");
    var inbox = new Inbox(channel, queue, false);
    Delivery first = inbox.take();
    assertFalse(first.getEnvelope().isRedeliver());
    refuse(method, tag(first), true);
    assertTrue(inbox.expect("1").get(0).getEnvelope().isRedeliver());
  }

  @ParameterizedTest
  @ValueSource(strings = {"nack", "reject"})
  void aMessageRefusedWithoutRequeueIsGone(String method) throws Exception {
    session.fill(queue, "1", "2");
    refuse(method, channel.basicGet(queue, false).getEnvelope().getDeliveryTag(), false);
    channel.close();
    assertEquals("2", session.getBody(queue));
  }

  @Test
  void oneNackRequeuesAllUpToItsTagInOrder() throws Exception {
    session.fill(queue, "1", "2", "3");
    channel.basicGet(queue, false);
    channel.basicNack(channel.basicGet(queue, false).getEnvelope().getDeliveryTag(), true, true);
    new Inbox(channel, queue, true).expect("1", "2", "3");
  }

  @Test
  void recoverRedeliversEverythingOutstanding() throws Exception {
    session.fill(queue, "1", "2");
    var inbox = new Inbox(channel, queue, false);
    inbox.expect("1", "2");
    channel.basicRecover(true);
    for (Delivery delivery : inbox.expect("1", "2")) assertTrue(delivery.getEnvelope().isRedeliver());
  }

  @Test
  void anUnknownDeliveryTagIs406() throws Exception {
    var closed = closing(channel);
    channel.basicAck(99, false);
    var close = (AMQP.Channel.Close) await(closed).getReason();
    assertEquals(406, close.getReplyCode());
    assertEquals("PRECONDITION_FAILED - unknown delivery tag 99", close.getReplyText());
  }

  @Test
  void prefetchLimitsWhatIsOutstandingForEachConsumer() throws Exception {
    session.fill(queue, "1", "2", "3", "4", "5");
    channel.basicQos(1);
    var one = new Inbox(channel, queue, false);
    channel.basicQos(2);
    var two = new Inbox(channel, queue, false);
    Delivery first = one.expect("1").get(0);
    two.expect("2", "3");
    session.expectReady(2, queue);
    channel.basicAck(tag(first), false);
    one.expect("4");
    session.expectReady(1, queue);
  }

  @Test
  void globalPrefetchIsSharedByTheConsumersOfAChannel() throws Exception {
    Map<String, Object> server = session.connection.getServerProperties();
    String[] version = server.get("version").toString().split("\\.");
    int release = Integer.parseInt(version[0]) * 100 + Integer.parseInt(version[1]);
    assumeFalse(
        server.get("platform").toString().startsWith("Erlang") && release >= 403,
        "RabbitMQ 4.3 denies the deprecated feature global_qos");
    String other = session.queue("other", Map.of());
    session.fill(queue, "1", "2");
    session.fill(other, "3", "4");
    channel.basicQos(3, true);
    Delivery first = new Inbox(channel, queue, false).expect("1", "2").get(0);
    var second = new Inbox(channel, other, false);
    second.expect("3");
    session.expectReady(1, other);
    channel.basicAck(tag(first), false);
    second.expect("4");
  }

  @Test
  void aCancelledConsumerKeepsWhatItHas() throws Exception {
    session.fill(queue, "1");
    var inbox = new Inbox(channel, queue, false);
    Delivery first = inbox.take();
    channel.basicCancel(inbox.tag);
    session.fill(queue, "2");
    session.expectReady(1, queue);
    channel.basicAck(tag(first), false);
    channel.close();
    session.expectReady(1, queue);
  }

  @Test
  void anExclusiveConsumerKeepsOthersOut() throws Exception {
    channel.basicConsume(queue, false, "", false, true, Map.of(), (t, d) -> {}, t -> {});
    refused(403, "ACCESS_REFUSED - queue '" + queue + "' in vhost '/' in exclusive use",
        () -> new Inbox(session.connection.createChannel(), queue, false));
  }

  @Test
  void deletingTheQueueCancelsItsConsumers() throws Exception {
    var inbox = new Inbox(channel, queue, false);
    session.publisher.queueDelete(queue);
    assertEquals(inbox.tag, await(inbox.cancelled));
    assertTrue(channel.isOpen());
  }

  @Test
  void getCountsWhatIsLeftAndTellsAnEmptyQueue() throws Exception {
    session.fill(queue, "1", "2");
    for (int left : new int[] {1, 0}) {
      var response = channel.basicGet(queue, false);
      assertEquals(left, response.getMessageCount());
      channel.basicAck(response.getEnvelope().getDeliveryTag(), false);
    }
    assertNull(channel.basicGet(queue, false));
  }
}
