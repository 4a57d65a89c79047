package conformance;

import static conformance.Session.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.rabbitmq.client.Channel;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class TransactionTest {
  private Session session;
  private Channel transaction;
  private String queue;

  @BeforeEach
  void open() throws Exception {
    session = new Session();
    queue = session.queue();
    transaction = session.connection.createChannel();
    transaction.txSelect();
  }

  @AfterEach
  void close() throws Exception {
    session.close();
  }

  @Test
  void whatIsPublishedArrivesWithTheCommit() throws Exception {
    for (int i = 0; i < 2; i++) transaction.basicPublish("", queue, null, new byte[0]);
    transaction.queueDeclarePassive(queue); // the broker has seen both
    session.expectReady(0, queue);
    transaction.txCommit();
    session.expectReady(2, queue);
  }

  @Test
  void aRollbackForgetsPublishesAndAcknowledgements() throws Exception {
    session.fill(queue, "1");
    long tag = transaction.basicGet(queue, false).getEnvelope().getDeliveryTag();
    transaction.basicAck(tag, false);
    transaction.basicPublish("", queue, null, "2".getBytes());
    transaction.txRollback();
    transaction.close();
    session.expectReady(1, queue);
    assertEquals("1", session.getBody(queue));
  }

  @Test
  void acknowledgementsTakeEffectWithTheCommit() throws Exception {
    session.fill(queue, "1");
    transaction.basicAck(transaction.basicGet(queue, false).getEnvelope().getDeliveryTag(), false);
    transaction.txCommit();
    transaction.close();
    session.expectReady(0, queue);
  }

  @Test
  void transactionsAndConfirmsExcludeEachOther() {
    refused(406, "cannot switch from tx to confirm mode", transaction::confirmSelect);
    refused(406, "cannot switch from confirm to tx mode", session.publisher::txSelect);
    refused(406, "channel is not transactional", session.channel::txCommit);
  }
}
