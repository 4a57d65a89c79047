// Package conformance holds a broker to AMQP 0-9-1 as amqp091-go uses it.
package conformance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// wait bounds everything that a test waits for.
const wait = 10 * time.Second

func url() string {
	if url := os.Getenv("AMQP_URL"); url != "" {
		return url
	}
	return "amqp://guest:guest@127.0.0.1:5672/"
}

// session is a connection with one channel, and names that are unique to a test.
type session struct {
	*testing.T
	connection *amqp.Connection
	*amqp.Channel
	publisher *amqp.Channel // confirming, so that what it has published is in the queues
	prefix    string
}

func newSession(t *testing.T) *session {
	t.Helper()
	var octets [6]byte
	if _, err := rand.Read(octets[:]); err != nil {
		t.Fatal(err)
	}
	connection := connect(t)
	publisher := openChannel(t, connection)
	must(t, publisher.Confirm(false))
	return &session{
		T:          t,
		connection: connection,
		Channel:    openChannel(t, connection),
		publisher:  publisher,
		prefix:     "conformance.go." + hex.EncodeToString(octets[:]),
	}
}

func connect(t *testing.T) *amqp.Connection {
	t.Helper()
	connection, err := amqp.Dial(url())
	must(t, err)
	t.Cleanup(func() { connection.Close() })
	return connection
}

func openChannel(t *testing.T, connection *amqp.Connection) *amqp.Channel {
	t.Helper()
	channel, err := connection.Channel()
	must(t, err)
	return channel
}

func (s *session) name(suffix string) string { return s.prefix + "." + suffix }

// declareQueue makes a durable queue that is deleted after the test.
func (s *session) declareQueue(suffix string, arguments amqp.Table) string {
	s.Helper()
	queue := s.name(suffix)
	_, err := s.QueueDeclare(queue, true, false, false, false, arguments)
	must(s.T, err)
	s.deleteQueueAfterwards(queue)
	return queue
}

func (s *session) deleteQueueAfterwards(queue string) {
	s.Cleanup(func() {
		connection := connect(s.T)
		_, err := openChannel(s.T, connection).QueueDelete(queue, false, false, false)
		must(s.T, err)
		connection.Close()
	})
}

// declareExchange makes a durable exchange that is deleted after the test.
func (s *session) declareExchange(suffix, kind string, arguments amqp.Table) string {
	s.Helper()
	exchange := s.name(suffix)
	must(s.T, s.ExchangeDeclare(exchange, kind, true, false, false, false, arguments))
	s.deleteExchangeAfterwards(exchange)
	return exchange
}

func (s *session) deleteExchangeAfterwards(exchange string) {
	s.Cleanup(func() {
		connection := connect(s.T)
		must(s.T, openChannel(s.T, connection).ExchangeDelete(exchange, false, false))
		connection.Close()
	})
}

func (s *session) boundQueue(suffix, exchange, key string, arguments amqp.Table) string {
	s.Helper()
	queue := s.declareQueue(suffix, nil)
	must(s.T, s.QueueBind(queue, key, exchange, false, arguments))
	return queue
}

// publish returns when the broker has confirmed every message.
func (s *session) publish(exchange, key string, bodies ...string) {
	s.Helper()
	for _, body := range bodies {
		s.confirmed(s.publisher, exchange, key, false, amqp.Publishing{Body: []byte(body)})
	}
}

// confirmed publishes on a confirming channel and waits for the ack.
func (s *session) confirmed(channel *amqp.Channel, exchange, key string, mandatory bool, message amqp.Publishing) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	confirmation, err := channel.PublishWithDeferredConfirmWithContext(ctx, exchange, key, mandatory, false, message)
	must(s.T, err)
	acked, err := confirmation.WaitContext(ctx)
	must(s.T, err)
	if !acked {
		s.Fatal("nacked")
	}
}

// ready is the number of messages that wait for a consumer.
func (s *session) ready(queue string) int {
	s.Helper()
	declared, err := s.QueueDeclarePassive(queue, true, false, false, false, nil)
	must(s.T, err)
	return declared.Messages
}

func (s *session) expectReady(queue string, count int) {
	s.Helper()
	if got := s.ready(queue); got != count {
		s.Errorf("%s has %d messages ready, expected %d", queue, got, count)
	}
}

func (s *session) consume(queue string, autoAck bool) <-chan amqp.Delivery {
	s.Helper()
	deliveries, err := s.Consume(queue, "", autoAck, false, false, false, nil)
	must(s.T, err)
	return deliveries
}

// get takes a message that must be there.
func (s *session) get(queue string, autoAck bool) amqp.Delivery {
	s.Helper()
	message, ok, err := s.Get(queue, autoAck)
	must(s.T, err)
	if !ok {
		s.Fatalf("%s is empty", queue)
	}
	return message
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await receives one value, or fails the test.
func await[T any](t *testing.T, values <-chan T) T {
	t.Helper()
	select {
	case value, open := <-values:
		if !open {
			t.Fatal("closed while a value was expected")
		}
		return value
	case <-time.After(wait):
		t.Fatalf("waited %s in vain", wait)
	}
	panic("unreachable: Fatal does not return")
}

func expectBodies(t *testing.T, deliveries <-chan amqp.Delivery, bodies ...string) []amqp.Delivery {
	t.Helper()
	var received []amqp.Delivery
	for _, body := range bodies {
		delivery := await(t, deliveries)
		if string(delivery.Body) != body {
			t.Fatalf("received %q, expected %q", delivery.Body, body)
		}
		received = append(received, delivery)
	}
	return received
}

// eventually polls what the broker does on its own, for which it sends no reply.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(wait); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", wait, what)
		}
	}
}

// expectError checks that the broker closed something with this code and text.
func expectError(t *testing.T, err error, code int, text string) {
	t.Helper()
	var closed *amqp.Error
	if !errors.As(err, &closed) {
		t.Fatalf("expected a close with code %d, got %v", code, err)
	}
	if closed.Code != code || !strings.Contains(closed.Reason, text) {
		t.Fatalf("closed with %d %q, expected %d %q", closed.Code, closed.Reason, code, text)
	}
}

// queueExists asks on a channel of its own, which a 404 closes.
func queueExists(t *testing.T, connection *amqp.Connection, queue string) bool {
	t.Helper()
	channel := openChannel(t, connection)
	_, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err == nil {
		must(t, channel.Close())
		return true
	}
	expectError(t, err, amqp.NotFound, "no queue '"+queue+"'")
	return false
}
