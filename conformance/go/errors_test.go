package conformance

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestPublishingToAMissingExchangeClosesOnlyThatChannel(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	failing := openChannel(t, s.connection)
	closed := failing.NotifyClose(make(chan *amqp.Error, 1))
	must(t, failing.Publish("conformance.missing", "key", false, false, amqp.Publishing{}))
	expectError(t, await(t, closed), amqp.NotFound, "NOT_FOUND - no exchange 'conformance.missing' in vhost '/'")
	s.publish("", queue, "1")
	s.expectReady(queue, 1)
	if s.connection.IsClosed() {
		t.Error("the connection is closed")
	}
}

func TestManyChannelsMayFailOnOneConnection(t *testing.T) {
	s := newSession(t)
	for i := 0; i < 20; i++ {
		_, err := openChannel(t, s.connection).QueueDeclarePassive("conformance.missing", true, false, false, false, nil)
		expectError(t, err, amqp.NotFound, "no queue 'conformance.missing'")
	}
	s.declareQueue("queue", nil)
}

// expectConnectionClose waits for the broker to close the whole connection.
func expectConnectionClose(t *testing.T, provoke func(*session), code int, text string) {
	t.Helper()
	s := newSession(t)
	closed := s.connection.NotifyClose(make(chan *amqp.Error, 1))
	provoke(s)
	err := await(t, closed)
	expectError(t, err, code, text)
	if !err.Server || !s.connection.IsClosed() {
		t.Errorf("not closed by the broker: %+v", err)
	}
}

func TestAReusedConsumerTagClosesTheConnection(t *testing.T) {
	expectConnectionClose(t, func(s *session) {
		queue := s.declareQueue("queue", nil)
		_, err := s.Consume(queue, "tag", false, false, false, false, nil)
		must(t, err)
		if _, err = s.Consume(queue, "tag", false, false, false, false, nil); err == nil {
			t.Error("the second consume succeeded")
		}
	}, amqp.NotAllowed, "NOT_ALLOWED - attempt to reuse consumer tag 'tag'")
}

func TestAnImmediatePublishIsNotImplemented(t *testing.T) {
	expectConnectionClose(t, func(s *session) {
		must(t, s.Publish("", "key", false, true, amqp.Publishing{}))
	}, amqp.NotImplemented, "NOT_IMPLEMENTED - immediate=true")
}

func TestAPrefetchSizeIsNotImplemented(t *testing.T) {
	expectConnectionClose(t, func(s *session) {
		if err := s.Qos(0, 1, false); err == nil {
			t.Error("qos succeeded")
		}
	}, amqp.NotImplemented, "NOT_IMPLEMENTED - prefetch_size!=0")
}
