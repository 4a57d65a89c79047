package conformance

import (
	"net"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestAnExclusiveQueueIsLockedAndGoesWithItsConnection(t *testing.T) {
	s := newSession(t)
	queue := s.name("exclusive")
	_, err := s.QueueDeclare(queue, false, false, true, false, nil)
	must(t, err)
	other := connect(t)
	_, err = openChannel(t, other).QueueDeclarePassive(queue, false, false, true, false, nil)
	expectError(t, err, amqp.ResourceLocked,
		"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '"+queue+"' in vhost '/'")
	must(t, s.connection.Close())
	if queueExists(t, other, queue) {
		t.Error("the queue outlives its connection")
	}
}

func TestALostConnectionTakesItsExclusiveQueueAndReturnsItsMessages(t *testing.T) {
	s := newSession(t)
	durable, exclusive := s.declareQueue("durable", nil), s.name("exclusive")
	s.publish("", durable, "1")

	var socket net.Conn
	lost, err := amqp.DialConfig(url(), amqp.Config{Dial: func(network, address string) (net.Conn, error) {
		var err error
		socket, err = net.Dial(network, address)
		return socket, err
	}})
	must(t, err)
	channel := openChannel(t, lost)
	_, err = channel.QueueDeclare(exclusive, false, false, true, false, nil)
	must(t, err)
	_, ok, err := channel.Get(durable, false)
	if !ok || err != nil {
		t.Fatal("nothing to get", err)
	}
	socket.Close()

	eventually(t, "the message comes back", func() bool { return s.ready(durable) == 1 })
	if !s.get(durable, true).Redelivered {
		t.Error("not marked as redelivered")
	}
	// While it is being deleted, the queue is still locked.
	eventually(t, "the exclusive queue goes", func() bool {
		_, err := openChannel(t, s.connection).QueueDeclarePassive(exclusive, false, false, true, false, nil)
		return err != nil && strings.Contains(err.Error(), "NOT_FOUND")
	})
}

func TestAnAutoDeleteQueueGoesWithItsLastConsumer(t *testing.T) {
	s := newSession(t)
	queue := s.name("queue")
	_, err := s.QueueDeclare(queue, true, true, false, false, nil)
	must(t, err)
	s.deleteQueueAfterwards(queue)
	for _, tag := range []string{"one", "two"} {
		_, err := s.Consume(queue, tag, false, false, false, false, nil)
		must(t, err)
	}
	must(t, s.Cancel("one", false))
	if !queueExists(t, s.connection, queue) {
		t.Fatal("the queue is gone while it has a consumer")
	}
	must(t, s.Cancel("two", false))
	eventually(t, "the queue goes", func() bool { return !queueExists(t, s.connection, queue) })
}

func TestAnAutoDeleteExchangeGoesWithItsLastBinding(t *testing.T) {
	s := newSession(t)
	queue, exchange := s.declareQueue("queue", nil), s.name("exchange")
	must(t, s.ExchangeDeclare(exchange, "fanout", true, true, false, false, nil))
	s.deleteExchangeAfterwards(exchange)
	must(t, s.QueueBind(queue, "", exchange, false, nil))
	must(t, s.QueueUnbind(queue, "", exchange, nil))
	err := s.ExchangeDeclarePassive(exchange, "fanout", true, true, false, false, nil)
	expectError(t, err, amqp.NotFound, "no exchange '"+exchange+"'")
}

func TestTheServerNamesAQueueThatHasNoName(t *testing.T) {
	s := newSession(t)
	first, err := s.QueueDeclare("", false, false, true, false, nil)
	must(t, err)
	second, err := s.QueueDeclare("", false, false, true, false, nil)
	must(t, err)
	if !strings.HasPrefix(first.Name, "amq.gen-") || first.Name == second.Name {
		t.Errorf("named %s and %s", first.Name, second.Name)
	}
	// An empty name stands for the queue declared last on the channel.
	must(t, s.QueueBind("", "conformance", "amq.direct", false, nil))
	s.publish("amq.direct", "conformance", "1")
	s.expectReady(first.Name, 0)
	s.expectReady(second.Name, 1)
}
