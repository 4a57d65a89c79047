package conformance

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestWhatIsPublishedArrivesWithTheCommit(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	must(t, s.Tx())
	for i := 0; i < 2; i++ {
		must(t, s.Publish("", queue, false, false, amqp.Publishing{}))
	}
	s.expectReady(queue, 0)
	must(t, s.TxCommit())
	s.expectReady(queue, 2)
}

func TestARollbackForgetsPublishesAndAcknowledgements(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1")
	must(t, s.Tx())
	message := s.get(queue, false)
	must(t, message.Ack(false))
	must(t, s.Publish("", queue, false, false, amqp.Publishing{Body: []byte("2")}))
	must(t, s.TxRollback())
	s.expectReady(queue, 0)
	must(t, s.Close())
	s.Channel = openChannel(t, s.connection)
	s.expectReady(queue, 1)
	if m := s.get(queue, true); string(m.Body) != "1" {
		t.Errorf("%s is in the queue", m.Body)
	}
}

func TestAcknowledgementsTakeEffectWithTheCommit(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1")
	must(t, s.Tx())
	must(t, s.get(queue, false).Ack(false))
	must(t, s.TxCommit())
	must(t, s.Close())
	s.Channel = openChannel(t, s.connection)
	s.expectReady(queue, 0)
}

func TestTransactionsAndConfirmsExcludeEachOther(t *testing.T) {
	s := newSession(t)
	must(t, s.Tx())
	expectError(t, s.Confirm(false), amqp.PreconditionFailed, "cannot switch from tx to confirm mode")
	channel := openChannel(t, s.connection)
	must(t, channel.Confirm(false))
	expectError(t, channel.Tx(), amqp.PreconditionFailed, "cannot switch from confirm to tx mode")
	channel = openChannel(t, s.connection)
	expectError(t, channel.TxCommit(), amqp.PreconditionFailed, "channel is not transactional")
}
