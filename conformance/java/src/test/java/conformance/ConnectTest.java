package conformance;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class ConnectTest {
  @Test
  void theServerIntroducesItselfWithTheNineCapabilities() throws Exception {
    try (Session session = new Session()) {
      Map<String, Object> properties = session.connection.getServerProperties();
      for (String name : List.of("product", "version", "platform")) {
        assertFalse(properties.get(name).toString().isEmpty(), name);
      }
      Map<?, ?> capabilities = (Map<?, ?>) properties.get("capabilities");
      for (String name :
          List.of(
              "publisher_confirms", "exchange_exchange_bindings", "basic.nack",
              "consumer_cancel_notify", "connection.blocked", "consumer_priorities",
              "authentication_failure_close", "per_consumer_qos", "direct_reply_to")) {
        assertEquals(true, capabilities.get(name), name);
      }
    }
  }

  @Test
  void aWrongPasswordIsRefused() throws Exception {
    var factory = Session.factory();
    factory.setPassword("wrong");
    var refused = assertThrows(AuthenticationFailureException.class, factory::newConnection);
    assertTrue(refused.getMessage().startsWith("ACCESS_REFUSED - Login was refused"), refused.getMessage());
  }

  @Test
  void aMissingVhostIsNotAllowed() throws Exception {
    var factory = Session.factory();
    factory.setVirtualHost("no-such-vhost");
    var refused = assertThrows(IOException.class, factory::newConnection);
    var shutdown = (ShutdownSignalException) refused.getCause();
    var close = (AMQP.Connection.Close) shutdown.getReason();
    assertEquals(530, close.getReplyCode());
    assertTrue(close.getReplyText().contains("vhost no-such-vhost not found"), close.getReplyText());
  }

  @Test
  void theSmallestFrameSizeIsAcceptedAndUsed() throws Exception {
    var factory = Session.factory();
    factory.setRequestedFrameMax(4096);
    try (Session session = new Session();
        Connection connection = factory.newConnection()) {
      assertEquals(4096, connection.getFrameMax());
      String queue = session.queue();
      byte[] body = "0123456789".repeat(2000).getBytes();
      var channel = connection.createChannel();
      channel.basicPublish("", queue, null, body);
      assertArrayEquals(body, channel.basicGet(queue, true).getBody());
    }
  }

  @Test
  void oneConnectionCarriesManyChannels() throws Exception {
    try (Session session = new Session()) {
      String queue = session.queue();
      for (int i = 0; i < 50; i++) {
        var channel = session.connection.createChannel();
        channel.confirmSelect();
        channel.basicPublish("", queue, null, new byte[0]);
        channel.waitForConfirmsOrDie(Session.WAIT_S * 1000L);
      }
      session.expectReady(50, queue);
    }
  }

  @Test
  void aClosedConnectionSaysSo() throws Exception {
    Connection connection = Session.factory().newConnection();
    var channel = connection.createChannel();
    connection.close();
    assertThrows(AlreadyClosedException.class, channel::queueDeclare);
    assertThrows(AlreadyClosedException.class, connection::createChannel);
  }
}
