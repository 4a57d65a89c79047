package conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.CancelCallback;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.junit.jupiter.api.function.Executable;

/** A connection with two channels, and unique names that are deleted at its end. */
final class Session implements AutoCloseable {
  static final int WAIT_S = 10;

  final Connection connection;
  final Channel channel;

  /** A confirming channel: what it has published is in the queues. */
  final Channel publisher;

  private final String prefix =
      "conformance.java." + UUID.randomUUID().toString().replace("-", "").substring(0, 12);
  private final List<String> queues = new ArrayList<>();
  private final List<String> exchanges = new ArrayList<>();

  Session() throws Exception {
    connection = factory().newConnection();
    channel = connection.createChannel();
    publisher = connection.createChannel();
    publisher.confirmSelect();
  }

  static ConnectionFactory factory() throws Exception {
    String url = System.getenv().getOrDefault("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/");
    ConnectionFactory factory = new ConnectionFactory();
    // The client reads a path of "/" as a vhost with an empty name.
    factory.setUri(url.endsWith("/") ? url.substring(0, url.length() - 1) : url);
    factory.setAutomaticRecoveryEnabled(false);
    factory.setChannelRpcTimeout(WAIT_S * 1000);
    return factory;
  }

  String name(String suffix) {
    return prefix + "." + suffix;
  }

  /** Declares a durable queue. */
  String queue(String suffix, Map<String, Object> arguments) throws IOException {
    queues.add(name(suffix));
    return channel.queueDeclare(name(suffix), true, false, false, arguments).getQueue();
  }

  String queue() throws IOException {
    return queue("queue", Map.of());
  }

  String boundQueue(String suffix, String exchange, String key) throws IOException {
    String queue = queue(suffix, Map.of());
    channel.queueBind(queue, exchange, key);
    return queue;
  }

  /** Declares a durable exchange. */
  String exchange(String suffix, String type, Map<String, Object> arguments) throws IOException {
    exchanges.add(name(suffix));
    channel.exchangeDeclare(name(suffix), type, true, false, arguments);
    return name(suffix);
  }

  String exchange(String suffix, String type) throws IOException {
    return exchange(suffix, type, Map.of());
  }

  /** Has an auto-delete queue or exchange deleted too, should the broker not do so. */
  void deleteAfterwards(String queue, String exchange) {
    if (queue != null) queues.add(queue);
    if (exchange != null) exchanges.add(exchange);
  }

  /** Publishes and waits for the confirm. */
  void publish(String exchange, String key, AMQP.BasicProperties properties, byte[] body)
      throws Exception {
    publisher.basicPublish(exchange, key, properties, body);
    publisher.waitForConfirmsOrDie(WAIT_S * 1000L);
  }

  void publish(String exchange, String key, String body) throws Exception {
    publish(exchange, key, null, body.getBytes(StandardCharsets.UTF_8));
  }

  void fill(String queue, String... bodies) throws Exception {
    for (String body : bodies) publish("", queue, body);
  }

  /** The number of messages that wait for a consumer. */
  int ready(String queue) throws IOException {
    return publisher.queueDeclarePassive(queue).getMessageCount();
  }

  void expectReady(int count, String queue) throws IOException {
    assertEquals(count, ready(queue), queue);
  }

  String getBody(String queue) throws IOException {
    var response = publisher.basicGet(queue, true);
    assertNotNull(response, "the queue is empty");
    return new String(response.getBody(), StandardCharsets.UTF_8);
  }

  /** Whether a queue exists, asked on a channel of its own, which a 404 closes. */
  boolean exists(String queue) throws Exception {
    Channel asking = connection.createChannel();
    try {
      asking.queueDeclarePassive(queue);
      asking.close();
      return true;
    } catch (IOException closed) {
      assertEquals(404, closeOf(closed).getReplyCode());
      return false;
    }
  }

  @Override
  public void close() throws Exception {
    if (connection.isOpen()) connection.close();
    try (Connection cleaning = factory().newConnection();
        Channel cleaner = cleaning.createChannel()) {
      for (String queue : queues) cleaner.queueDelete(queue);
      for (String exchange : exchanges) cleaner.exchangeDelete(exchange);
    }
  }

  /** A consumer that collects its deliveries, to be taken one by one. */
  static final class Inbox {
    final String tag;
    final CompletableFuture<String> cancelled = new CompletableFuture<>();
    private final BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();

    Inbox(Channel channel, String queue, boolean autoAck) throws IOException {
      CancelCallback cancel = cancelled::complete;
      tag = channel.basicConsume(queue, autoAck, (t, delivery) -> deliveries.add(delivery), cancel);
    }

    Delivery take() throws InterruptedException {
      Delivery delivery = deliveries.poll(WAIT_S, TimeUnit.SECONDS);
      assertNotNull(delivery, "no delivery within " + WAIT_S + " s");
      return delivery;
    }

    List<Delivery> expect(String... bodies) throws InterruptedException {
      List<Delivery> received = new ArrayList<>();
      for (String body : bodies) {
        received.add(take());
        assertEquals(body, new String(received.get(received.size() - 1).getBody(), StandardCharsets.UTF_8));
      }
      return received;
    }
  }

  /** The close method with which the broker answered. */
  static AMQP.Channel.Close closeOf(Throwable thrown) {
    return (AMQP.Channel.Close) shutdownOf(thrown).getReason();
  }

  private static ShutdownSignalException shutdownOf(Throwable thrown) {
    for (Throwable cause = thrown; cause != null; cause = cause.getCause()) {
      if (cause instanceof ShutdownSignalException shutdown) return shutdown;
    }
    return fail("not closed by the broker", thrown);
  }

  /** Expects that the broker closes the channel because of this operation. */
  static void refused(int code, String text, Executable operation) {
    var close = closeOf(assertThrows(Exception.class, operation));
    assertEquals(code, close.getReplyCode(), close.getReplyText());
    assertTrue(close.getReplyText().contains(text), close.getReplyText());
  }

  /** Completes when the channel is closed. */
  static CompletableFuture<ShutdownSignalException> closing(Channel channel) {
    var closed = new CompletableFuture<ShutdownSignalException>();
    channel.addShutdownListener(closed::complete);
    return closed;
  }

  static CompletableFuture<ShutdownSignalException> closing(Connection connection) {
    var closed = new CompletableFuture<ShutdownSignalException>();
    connection.addShutdownListener(closed::complete);
    return closed;
  }

  static <T> T await(CompletableFuture<T> future)
      throws InterruptedException, ExecutionException, TimeoutException {
    return future.get(WAIT_S, TimeUnit.SECONDS);
  }

  /** Polls what the broker does on its own, for which it sends no reply. */
  static void eventually(String what, Callable<Boolean> condition) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_S);
    while (!condition.call()) {
      assertTrue(System.nanoTime() < deadline, "waited " + WAIT_S + " s in vain: " + what);
      Thread.sleep(10);
    }
  }
}
