package conformance;

import static conformance.Session.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.rabbitmq.client.AMQP;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class TopologyTest {
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
  void theDefaultExchangeRoutesByQueueName() throws Exception {
    String queue = session.queue();
    session.publish("", queue, "1");
    session.expectReady(1, queue);
  }

  @Test
  void aDirectExchangeRoutesByEqualKey() throws Exception {
    String exchange = session.exchange("exchange", "direct");
    String red = session.boundQueue("red", exchange, "red");
    String both = session.boundQueue("both", exchange, "red");
    session.channel.queueBind(both, exchange, "blue");
    for (String key : List.of("red", "blue", "RED")) session.publish(exchange, key, key);
    session.expectReady(1, red);
    session.expectReady(2, both);
  }

  @Test
  void aFanoutExchangeRoutesToEveryQueue() throws Exception {
    String exchange = session.exchange("exchange", "fanout");
    String one = session.boundQueue("one", exchange, "ignored");
    String two = session.boundQueue("two", exchange, "");
    session.publish(exchange, "another", "1");
    session.expectReady(1, one);
    session.expectReady(1, two);
  }

  @ParameterizedTest
  @CsvSource({
    "log.*, log.info, 1", "log.*, log, 0", "log.*, log.info.disk, 0",
    "log.#, log, 1", "log.#, log.info.disk, 1", "log.#, xlog, 0",
    "#.disk, disk, 1", "#.disk, a.b.disk, 1", "#.disk, disk.a, 0",
    "*.b.*, a.b.c, 1", "*.b.*, b, 0", "#, a.b, 1", "#, '', 1"
  })
  void aTopicExchangeMatchesWords(String pattern, String key, int arrives) throws Exception {
    String exchange = session.exchange("exchange", "topic");
    String queue = session.boundQueue("queue", exchange, pattern);
    session.publish(exchange, key, "1");
    session.expectReady(arrives, queue);
  }

  @ParameterizedTest
  @CsvSource({
    "all, 1, two, 1", "all, 1, three, 0", "any, 1, three, 1", "any, 2, two, 1", "any, 2, three, 0"
  })
  void aHeadersExchangeMatchesArguments(String match, int a, String b, int arrives) throws Exception {
    String exchange = session.exchange("exchange", "headers");
    String queue = session.queue();
    session.channel.queueBind(queue, exchange, "", Map.of("x-match", match, "a", 1, "b", "two"));
    var properties = new AMQP.BasicProperties.Builder().headers(Map.of("a", a, "b", b)).build();
    session.publish(exchange, "", properties, new byte[0]);
    session.expectReady(arrives, queue);
  }

  @Test
  void exchangesBindToExchanges() throws Exception {
    String source = session.exchange("source", "topic");
    String destination = session.exchange("destination", "fanout");
    String queue = session.boundQueue("queue", destination, "");
    session.channel.exchangeBind(destination, source, "log.#");
    session.publish(source, "log.info", "1");
    session.publish(source, "other", "2");
    session.expectReady(1, queue);
    session.channel.exchangeUnbind(destination, source, "log.#");
    session.publish(source, "log.info", "3");
    session.expectReady(1, queue);
  }

  @Test
  void theAlternateExchangeTakesWhatIsUnroutable() throws Exception {
    String alternate = session.exchange("alternate", "fanout");
    String exchange =
        session.exchange("exchange", "direct", Map.of("alternate-exchange", alternate));
    String rest = session.boundQueue("rest", alternate, "");
    session.publish(exchange, "unknown", "1");
    session.expectReady(1, rest);
  }

  @Test
  void unbindingStopsTheFlow() throws Exception {
    String exchange = session.exchange("exchange", "direct");
    String queue = session.boundQueue("queue", exchange, "key");
    session.publish(exchange, "key", "1");
    session.channel.queueUnbind(queue, exchange, "key");
    session.publish(exchange, "key", "2");
    session.expectReady(1, queue);
  }

  @Test
  void redeclaringAnEqualQueueCounts() throws Exception {
    String queue = session.queue();
    session.fill(queue, "1", "2");
    session.channel.basicQos(1);
    new Session.Inbox(session.channel, queue, false).take();
    var declared = session.channel.queueDeclare(queue, true, false, false, null);
    assertEquals(1, declared.getMessageCount());
    assertEquals(1, declared.getConsumerCount());
  }

  @Test
  void redeclaringAnUnequalQueueIs406() throws Exception {
    String queue = session.queue();
    refused(406,
        "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '" + queue
            + "' in vhost '/': received 'true' but current is 'false'",
        () -> session.channel.queueDeclare(queue, true, false, true, null));
  }

  @Test
  void redeclaringAQueueWithAnotherArgumentIs406() throws Exception {
    String queue = session.queue("queue", Map.of("x-message-ttl", 60_000));
    // Integers of another width are equal.
    session.channel.queueDeclare(queue, true, false, false, Map.of("x-message-ttl", 60_000L));
    refused(406, "inequivalent arg 'x-message-ttl' for queue '" + queue + "'",
        () -> session.channel.queueDeclare(queue, true, false, false, Map.of("x-message-ttl", 1)));
  }

  @Test
  void redeclaringAnUnequalExchangeIs406() throws Exception {
    String exchange = session.exchange("exchange", "direct");
    refused(406, "inequivalent arg 'type' for exchange '" + exchange
            + "' in vhost '/': received 'fanout' but current is 'direct'",
        () -> session.channel.exchangeDeclare(exchange, "fanout", true));
  }

  @Test
  void aPassiveDeclareOfSomethingMissingIs404() throws Exception {
    refused(404, "NOT_FOUND - no queue 'conformance.missing' in vhost '/'",
        () -> session.channel.queueDeclarePassive("conformance.missing"));
    refused(404, "NOT_FOUND - no exchange 'conformance.missing' in vhost '/'",
        () -> session.connection.createChannel().exchangeDeclarePassive("conformance.missing"));
  }

  @Test
  void deletingCountsAndTakesConditions() throws Exception {
    String queue = session.queue();
    session.fill(queue, "1", "2", "3");
    refused(406, "queue '" + queue + "' in vhost '/' not empty",
        () -> session.connection.createChannel().queueDelete(queue, false, true));
    assertEquals(3, session.channel.queuePurge(queue).getMessageCount());
    session.fill(queue, "4");
    assertEquals(1, session.channel.queueDelete(queue).getMessageCount());
    assertEquals(0, session.channel.queueDelete(queue).getMessageCount());
  }

  @Test
  void aReservedNameIs403() {
    refused(403, "queue name 'amq.conformance' contains reserved prefix 'amq.*'",
        () -> session.channel.queueDeclare("amq.conformance", true, false, false, null));
  }
}
