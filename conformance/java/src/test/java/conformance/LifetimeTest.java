package conformance;

import static conformance.Session.eventually;
import static conformance.Session.refused;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.Connection;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class LifetimeTest {
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
  void anExclusiveQueueIsLockedAndGoesWithItsConnection() throws Exception {
    Connection owner = Session.factory().newConnection();
    String queue = session.name("exclusive");
    owner.createChannel().queueDeclare(queue, false, true, false, Map.of());
    refused(405,
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '" + queue + "' in vhost '/'",
        () -> session.channel.queueDeclarePassive(queue));
    owner.close();
    assertFalse(session.exists(queue));
  }

  @Test
  void anAutoDeleteQueueGoesWithItsLastConsumer() throws Exception {
    String queue = session.name("queue");
    session.channel.queueDeclare(queue, true, false, true, Map.of());
    session.deleteAfterwards(queue, null);
    var one = new Session.Inbox(session.channel, queue, false);
    var two = new Session.Inbox(session.channel, queue, false);
    session.channel.basicCancel(one.tag);
    assertTrue(session.exists(queue));
    session.channel.basicCancel(two.tag);
    eventually("the queue goes", () -> !session.exists(queue));
  }

  @Test
  void anAutoDeleteExchangeGoesWithItsLastBinding() throws Exception {
    String queue = session.queue();
    String exchange = session.name("exchange");
    session.channel.exchangeDeclare(exchange, "fanout", true, true, Map.of());
    session.deleteAfterwards(null, exchange);
    session.channel.queueBind(queue, exchange, "");
    session.channel.queueUnbind(queue, exchange, "");
    refused(404, "no exchange '" + exchange + "'",
        () -> session.channel.exchangeDeclarePassive(exchange));
  }

  @Test
  void theServerNamesAQueueThatHasNoName() throws Exception {
    String first = session.channel.queueDeclare().getQueue();
    String second = session.channel.queueDeclare().getQueue();
    assertTrue(first.startsWith("amq.gen-") && second.startsWith("amq.gen-"), first);
    assertNotEquals(first, second);
    // An empty name stands for the queue declared last on the channel.
    session.channel.queueBind("", "amq.direct", session.name("key"));
    session.publish("amq.direct", session.name("key"), "1");
    session.expectReady(0, first);
    session.expectReady(1, second);
  }
}
