package conformance;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Return;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.LinkedBlockingQueue;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class PublishTest {
  private Session session;
  private String queue;

  @BeforeEach
  void open() throws Exception {
    session = new Session();
    queue = session.queue();
  }

  @AfterEach
  void close() throws Exception {
    session.close();
  }

  @Test
  void aConfirmMeansThatTheMessageIsInTheQueue() throws Exception {
    session.publish("", queue, MessageProperties.MINIMAL_PERSISTENT_BASIC, new byte[] {1});
    session.expectReady(1, queue);
  }

  @Test
  void everyOneOfManyIsConfirmedAndTheirOrderKept() throws Exception {
    String[] bodies = new String[1000];
    for (int i = 0; i < bodies.length; i++) {
      bodies[i] = "message " + i;
      session.publisher.basicPublish(
          "", queue, MessageProperties.MINIMAL_PERSISTENT_BASIC, bodies[i].getBytes());
    }
    assertTrue(session.publisher.waitForConfirms(Session.WAIT_S * 1000L));
    session.expectReady(1000, queue);
    new Session.Inbox(session.channel, queue, true).expect(bodies);
  }

  @Test
  void aMandatoryMessageThatIsUnroutableComesBackBeforeItsConfirm() throws Exception {
    var events = new LinkedBlockingQueue<Object>();
    session.publisher.addReturnListener((Return returned) -> events.add(returned));
    session.publisher.addConfirmListener((tag, multiple) -> events.add(tag), (tag, multiple) -> {});
    var properties = new AMQP.BasicProperties.Builder().messageId("m").build();
    String key = session.name("nowhere");
    session.publisher.basicPublish("amq.direct", key, true, properties, "body".getBytes());
    session.publisher.waitForConfirmsOrDie(Session.WAIT_S * 1000L);
    Return returned = (Return) events.remove();
    assertEquals(312, returned.getReplyCode());
    assertEquals("NO_ROUTE", returned.getReplyText());
    assertEquals("amq.direct", returned.getExchange());
    assertEquals(key, returned.getRoutingKey());
    assertEquals("m", returned.getProperties().getMessageId());
    assertEquals("body", new String(returned.getBody()));
    assertEquals(1L, events.remove());
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 1, 131_064, 131_065, 1024 * 1024})
  void aBodyOfAnySizeArrivesUnchanged(int size) throws Exception {
    byte[] body = new byte[size];
    for (int i = 0; i < size; i++) body[i] = (byte) (i % 251);
    var inbox = new Session.Inbox(session.channel, queue, true);
    session.publish("", queue, null, body);
    assertArrayEquals(body, inbox.take().getBody());
  }

  @Test
  void allPropertiesArriveUnchanged() throws Exception {
    var sent =
        new AMQP.BasicProperties.Builder()
            .contentType("application/json")
            .contentEncoding("identity")
            .headers(Map.of("flag", true))
            .deliveryMode(2)
            .priority(7)
            .correlationId("correlation")
            .replyTo("reply.queue")
            .expiration("3600000")
            .messageId("message-1")
            .timestamp(new Date(1_700_000_000_000L))
            .type("order.created")
            .userId(Session.factory().getUsername())
            .appId("conformance")
            .build();
    session.publish("", queue, sent, new byte[0]);
    assertEquals(sent, new Session.Inbox(session.channel, queue, true).take().getProperties());
  }

  @Test
  void headersOfEveryTypeArriveUnchanged() throws Exception {
    Map<String, Object> headers = new LinkedHashMap<>();
    headers.put("true", true);
    headers.put("false", false);
    headers.put("byte", Byte.MIN_VALUE);
    headers.put("short", Short.MIN_VALUE);
    headers.put("int", Integer.MIN_VALUE);
    headers.put("long", Long.MIN_VALUE);
    headers.put("float", -1.5f);
    headers.put("double", Math.PI);
    headers.put("decimal", new BigDecimal("-3.14"));
    headers.put("string", "sch\u00f6n \u2603");
    headers.put("empty string", "");
    headers.put("bytes", new byte[] {0, -1, 0});
    headers.put("timestamp", new Date(1_700_000_000_000L));
    headers.put("null", null);
    List<Object> array = new ArrayList<>(List.of(1, "two", List.of(false), Map.of("three", 3L)));
    array.add(null);
    headers.put("array", array);
    headers.put("table", Map.of("deep", Map.of("deeper", Map.of())));

    session.publish("", queue, new AMQP.BasicProperties.Builder().headers(headers).build(), new byte[0]);
    var received = new Session.Inbox(session.channel, queue, true).take().getProperties().getHeaders();
    for (var header : headers.entrySet()) {
      Object value = received.get(header.getKey());
      if (header.getValue() instanceof byte[] bytes) assertArrayEquals(bytes, (byte[]) value);
      else assertEquals(header.getValue(), plain(value), header.getKey());
    }
    // The client reads a table into a hash map, which hides the order of its keys.
    assertEquals(headers.keySet(), received.keySet());
  }

  /** Replaces the client's own type of strings by Java's. */
  private static Object plain(Object value) {
    if (value instanceof LongString string) return string.toString();
    if (value instanceof List<?> list) {
      List<Object> plain = new ArrayList<>();
      for (Object item : list) plain.add(plain(item));
      return plain;
    }
    return value;
  }

  @Test
  void aDeliveryNamesItsOrigin() throws Exception {
    String exchange = session.exchange("exchange", "topic");
    session.channel.queueBind(queue, exchange, "#");
    session.publish(exchange, "some.key", "1");
    var envelope = new Session.Inbox(session.channel, queue, false).take().getEnvelope();
    assertEquals(exchange, envelope.getExchange());
    assertEquals("some.key", envelope.getRoutingKey());
    assertEquals(1, envelope.getDeliveryTag());
    assertFalse(envelope.isRedeliver());
  }
}
