package conformance

import (
	"errors"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestTheServerIntroducesItself(t *testing.T) {
	s := newSession(t)
	for _, name := range []string{"product", "version", "platform"} {
		if value, ok := s.connection.Properties[name].(string); !ok || value == "" {
			t.Errorf("server property %s is %v", name, s.connection.Properties[name])
		}
	}
	capabilities, ok := s.connection.Properties["capabilities"].(amqp.Table)
	if !ok {
		t.Fatal("no capabilities")
	}
	for _, name := range []string{
		"publisher_confirms", "exchange_exchange_bindings", "basic.nack",
		"consumer_cancel_notify", "connection.blocked", "consumer_priorities",
		"authentication_failure_close", "per_consumer_qos", "direct_reply_to",
	} {
		if capabilities[name] != true {
			t.Errorf("capability %s is %v", name, capabilities[name])
		}
	}
}

// dialAs connects with one part of the address replaced.
func dialAs(t *testing.T, change func(*amqp.URI)) error {
	t.Helper()
	uri, err := amqp.ParseURI(url())
	must(t, err)
	change(&uri)
	connection, err := amqp.Dial(uri.String())
	if err == nil {
		connection.Close()
		t.Fatal("connected")
	}
	return err
}

func TestAWrongPasswordIsRefused(t *testing.T) {
	// The client does not announce authentication_failure_close: the broker
	// drops the connection, which the client takes for wrong credentials.
	err := dialAs(t, func(uri *amqp.URI) { uri.Password = "wrong" })
	if !errors.Is(err, amqp.ErrCredentials) {
		expectError(t, err, amqp.AccessRefused, "ACCESS_REFUSED")
	}
}

func TestAMissingVhostIsNotAllowed(t *testing.T) {
	err := dialAs(t, func(uri *amqp.URI) { uri.Vhost = "no-such-vhost" })
	expectError(t, err, amqp.NotAllowed, "vhost no-such-vhost not found")
}

func TestTheSmallestFrameSizeIsAcceptedAndUsed(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	connection, err := amqp.DialConfig(url(), amqp.Config{FrameSize: 4096})
	must(t, err)
	defer connection.Close()
	if connection.Config.FrameSize != 4096 {
		t.Errorf("negotiated %d", connection.Config.FrameSize)
	}
	channel := openChannel(t, connection)
	body := strings.Repeat("0123456789abcdef", 1024)
	must(t, channel.Publish("", queue, false, false, amqp.Publishing{Body: []byte(body)}))
	message, ok, err := channel.Get(queue, true)
	must(t, err)
	if !ok || string(message.Body) != body {
		t.Error("the body came back changed")
	}
}

func TestOneConnectionCarriesManyChannels(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	for i := 0; i < 50; i++ {
		channel := openChannel(t, s.connection)
		must(t, channel.Confirm(false))
		s.confirmed(channel, "", queue, false, amqp.Publishing{})
	}
	s.expectReady(queue, 50)
}

func TestASecretCanBeUpdated(t *testing.T) {
	s := newSession(t)
	uri, err := amqp.ParseURI(url())
	must(t, err)
	must(t, s.connection.UpdateSecret(uri.Password, "rotation"))
	s.declareQueue("queue", nil)
}

func TestAClosedConnectionSaysSo(t *testing.T) {
	connection := connect(t)
	channel := openChannel(t, connection)
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	must(t, connection.Close())
	if err, open := <-closed; open {
		t.Errorf("an orderly close reported %v", err)
	}
	if _, err := channel.QueueDeclare("", false, false, true, false, nil); !errors.Is(err, amqp.ErrClosed) {
		t.Errorf("a channel of a closed connection answered %v", err)
	}
}
