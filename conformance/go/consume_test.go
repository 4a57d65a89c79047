package conformance

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestAcknowledgedMessagesAreGone(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1", "2", "3")
	deliveries := expectBodies(t, s.consume(queue, false), "1", "2", "3")
	must(t, deliveries[0].Ack(false))
	must(t, s.Close())
	s.Channel = openChannel(t, s.connection)
	for _, m := range expectBodies(t, s.consume(queue, true), "2", "3") {
		if !m.Redelivered {
			t.Errorf("%s is not marked as redelivered", m.Body)
		}
	}
}

func TestOneAcknowledgementCoversAllUpToItsTag(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1", "2", "3")
	deliveries := expectBodies(t, s.consume(queue, false), "1", "2", "3")
	must(t, deliveries[1].Ack(true))
	must(t, s.Close())
	s.Channel = openChannel(t, s.connection)
	s.expectReady(queue, 1)
	if m := s.get(queue, true); string(m.Body) != "3" {
		t.Errorf("%s is left", m.Body)
	}
}

func TestARequeuedMessageComesAgainAsRedelivered(t *testing.T) {
	for name, requeue := range map[string]func(amqp.Delivery) error{
		"nack":   func(m amqp.Delivery) error { return m.Nack(false, true) },
		"reject": func(m amqp.Delivery) error { return m.Reject(true) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			queue := s.declareQueue("queue", nil)
			s.publish("", queue, "1")
			deliveries := s.consume(queue, false)
			first := await(t, deliveries)
			must(t, requeue(first))
			second := await(t, deliveries)
			if first.Redelivered || !second.Redelivered || string(second.Body) != "1" {
				t.Errorf("first %+v, second %+v", first, second)
			}
		})
	}
}

func TestAMessageRefusedWithoutRequeueIsGone(t *testing.T) {
	for name, refuse := range map[string]func(amqp.Delivery) error{
		"nack":   func(m amqp.Delivery) error { return m.Nack(false, false) },
		"reject": func(m amqp.Delivery) error { return m.Reject(false) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			queue := s.declareQueue("queue", nil)
			s.publish("", queue, "1", "2")
			must(t, refuse(s.get(queue, false)))
			must(t, s.Close())
			s.Channel = openChannel(t, s.connection)
			if m := s.get(queue, true); string(m.Body) != "2" {
				t.Errorf("%s is at the head", m.Body)
			}
		})
	}
}

func TestOneNackRequeuesAllUpToItsTagInOrder(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1", "2", "3", "4")
	var last amqp.Delivery
	for i := 0; i < 3; i++ {
		last = s.get(queue, false)
	}
	must(t, last.Nack(true, true))
	expectBodies(t, s.consume(queue, true), "1", "2", "3", "4")
}

func TestRecoverRedeliversEverythingOutstanding(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1", "2")
	deliveries := s.consume(queue, false)
	expectBodies(t, deliveries, "1", "2")
	must(t, s.Recover(true))
	for _, m := range expectBodies(t, deliveries, "1", "2") {
		if !m.Redelivered {
			t.Errorf("%s is not marked as redelivered", m.Body)
		}
	}
}

func TestAnUnknownDeliveryTagIs406(t *testing.T) {
	s := newSession(t)
	closed := s.NotifyClose(make(chan *amqp.Error, 1))
	must(t, s.Ack(99, false))
	expectError(t, await(t, closed), amqp.PreconditionFailed, "PRECONDITION_FAILED - unknown delivery tag 99")
}

func TestPrefetchLimitsWhatIsOutstanding(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1", "2", "3", "4", "5")
	must(t, s.Qos(2, 0, false))
	deliveries := s.consume(queue, false)
	first := await(t, deliveries)
	await(t, deliveries)
	s.expectReady(queue, 3)
	must(t, first.Ack(false))
	expectBodies(t, deliveries, "3")
	s.expectReady(queue, 2)
}

func TestPrefetchCountsEachConsumerByItself(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1", "2", "3", "4")
	must(t, s.Qos(1, 0, false))
	one := s.consume(queue, false)
	must(t, s.Qos(2, 0, false))
	two := s.consume(queue, false)
	await(t, one)
	await(t, two)
	await(t, two)
	s.expectReady(queue, 1)
}

func TestGlobalPrefetchIsSharedByTheConsumersOfAChannel(t *testing.T) {
	s := newSession(t)
	if deniesGlobalQos(s.connection.Properties) {
		t.Skip("RabbitMQ 4.3 denies the deprecated feature global_qos")
	}
	one, two := s.declareQueue("one", nil), s.declareQueue("two", nil)
	s.publish("", one, "1", "2")
	s.publish("", two, "3", "4")
	must(t, s.Qos(3, 0, true))
	first := expectBodies(t, s.consume(one, false), "1", "2")
	second := s.consume(two, false)
	expectBodies(t, second, "3")
	s.expectReady(two, 1)
	must(t, first[0].Ack(false))
	expectBodies(t, second, "4")
	s.expectReady(two, 0)
}

func deniesGlobalQos(properties amqp.Table) bool {
	parts := strings.SplitN(fmt.Sprint(properties["version"]), ".", 3)
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[len(parts)-1])
	if len(parts) > 1 {
		minor, _ = strconv.Atoi(parts[1])
	}
	erlang := strings.HasPrefix(fmt.Sprint(properties["platform"]), "Erlang")
	return erlang && (major > 4 || major == 4 && minor >= 3)
}

func TestACancelledConsumerKeepsWhatItHas(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1")
	deliveries, err := s.Consume(queue, "tag", false, false, false, false, nil)
	must(t, err)
	first := await(t, deliveries)
	must(t, s.Cancel("tag", false))
	s.publish("", queue, "2")
	s.expectReady(queue, 1)
	must(t, first.Ack(false))
	if m, open := <-deliveries; open {
		t.Errorf("a cancelled consumer received %s", m.Body)
	}
}

func TestAnExclusiveConsumerKeepsOthersOut(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	_, err := s.Consume(queue, "", false, true, false, false, nil)
	must(t, err)
	_, err = openChannel(t, s.connection).Consume(queue, "", false, false, false, false, nil)
	expectError(t, err, amqp.AccessRefused, "ACCESS_REFUSED - queue '"+queue+"' in vhost '/' in exclusive use")
}

func TestDeletingTheQueueCancelsItsConsumers(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	cancelled := s.NotifyCancel(make(chan string, 1))
	_, err := s.Consume(queue, "tag", false, false, false, false, nil)
	must(t, err)
	_, err = openChannel(t, s.connection).QueueDelete(queue, false, false, false)
	must(t, err)
	if tag := await(t, cancelled); tag != "tag" {
		t.Errorf("cancelled %s", tag)
	}
	if s.IsClosed() {
		t.Error("the channel is closed")
	}
}

func TestGetCountsWhatIsLeftAndTellsAnEmptyQueue(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1", "2")
	for _, left := range []uint32{1, 0} {
		m := s.get(queue, false)
		if m.MessageCount != left {
			t.Errorf("%d messages left, expected %d", m.MessageCount, left)
		}
		must(t, m.Ack(false))
	}
	if _, ok, err := s.Get(queue, false); ok || err != nil {
		t.Errorf("an empty queue gave %v, %v", ok, err)
	}
}
