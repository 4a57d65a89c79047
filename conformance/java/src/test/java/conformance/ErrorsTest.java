package conformance;

import static conformance.Session.await;
import static conformance.Session.closing;
import static conformance.Session.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

class ErrorsTest {
  private Session session;

  @BeforeEach
  void open() throws Exception {
    session = new Session();
  }

  @AfterEach
  void close() throws Exception {
    session.close();
  }

  @Test
  void publishingToAMissingExchangeClosesOnlyThatChannel() throws Exception {
    String queue = session.queue();
    Channel failing = session.connection.createChannel();
    var closed = closing(failing);
    failing.basicPublish("conformance.missing", "key", null, new byte[0]);
    var close = (AMQP.Channel.Close) await(closed).getReason();
    assertEquals(404, close.getReplyCode());
    assertEquals("NOT_FOUND - no exchange 'conformance.missing' in vhost '/'", close.getReplyText());
    assertEquals(60, close.getClassId());
    assertEquals(40, close.getMethodId());
    session.fill(queue, "1");
    session.expectReady(1, queue);
  }

  @Test
  void manyChannelsMayFailOnOneConnection() throws Exception {
    for (int i = 0; i < 20; i++) {
      Channel channel = session.connection.createChannel();
      refused(404, "no queue 'conformance.missing'",
          () -> channel.queueDeclarePassive("conformance.missing"));
    }
    session.queue();
  }

  private void expectConnectionClose(int code, String text, Executable provocation) throws Exception {
    var closed = closing(session.connection);
    assertThrows(Exception.class, () -> {
      provocation.execute();
      throw await(closed); // what sends no request has no reply to fail
    });
    var close = (AMQP.Connection.Close) await(closed).getReason();
    assertEquals(code, close.getReplyCode(), close.getReplyText());
    assertTrue(close.getReplyText().contains(text), close.getReplyText());
  }

  @Test
  void aReusedConsumerTagClosesTheConnection() throws Exception {
    String queue = session.queue();
    session.channel.basicConsume(queue, true, "tag", (t, d) -> {}, t -> {});
    expectConnectionClose(530, "NOT_ALLOWED - attempt to reuse consumer tag 'tag'",
        () -> session.channel.basicConsume(queue, true, "tag", (t, d) -> {}, t -> {}));
  }

  @Test
  void anImmediatePublishIsNotImplemented() throws Exception {
    expectConnectionClose(540, "NOT_IMPLEMENTED - immediate=true",
        () -> session.channel.basicPublish("", "key", false, true, null, new byte[0]));
  }

  @Test
  void aPrefetchSizeIsNotImplemented() throws Exception {
    expectConnectionClose(540, "NOT_IMPLEMENTED - prefetch_size!=0",
        () -> session.channel.basicQos(1, 0, false));
  }
}
