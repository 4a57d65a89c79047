package conformance

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestAConfirmMeansThatTheMessageIsInTheQueue(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.confirmed(s.publisher, "", queue, false, amqp.Publishing{DeliveryMode: amqp.Persistent})
	s.expectReady(queue, 1)
}

func TestEveryOneOfManyIsConfirmed(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	must(t, s.Confirm(false))
	confirms := s.NotifyPublish(make(chan amqp.Confirmation, 1000))
	var bodies []string
	for i := 0; i < 1000; i++ {
		bodies = append(bodies, fmt.Sprint("message ", i))
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(bodies[i])}
		must(t, s.Publish("", queue, false, false, message))
	}
	for i := range bodies {
		confirm := await(t, confirms)
		if !confirm.Ack || confirm.DeliveryTag != uint64(i+1) {
			t.Fatalf("confirm %d is %+v", i+1, confirm)
		}
	}
	expectBodies(t, s.consume(queue, true), bodies...)
}

func TestAMandatoryMessageThatIsUnroutableComesBackBeforeItsConfirm(t *testing.T) {
	s := newSession(t)
	returns := s.publisher.NotifyReturn(make(chan amqp.Return, 1))
	s.confirmed(s.publisher, "amq.direct", s.name("nowhere"), true, amqp.Publishing{MessageId: "m", Body: []byte("body")})
	select {
	case returned := <-returns:
		if returned.ReplyCode != 312 || returned.ReplyText != "NO_ROUTE" ||
			returned.Exchange != "amq.direct" || returned.RoutingKey != s.name("nowhere") ||
			returned.MessageId != "m" || string(returned.Body) != "body" {
			t.Errorf("returned %+v", returned)
		}
	default:
		t.Error("the confirm came without a return before it")
	}
	s.confirmed(s.publisher, "amq.direct", s.name("nowhere"), false, amqp.Publishing{})
}

func TestABodyOfAnySizeArrivesUnchanged(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	deliveries := s.consume(queue, true)
	payload := s.connection.Config.FrameSize - 8
	for _, size := range []int{0, 1, payload, payload + 1, 1 << 20} {
		body := bytes.Repeat([]byte("0123456"), size/7+1)[:size]
		must(t, s.Publish("", queue, false, false, amqp.Publishing{Body: body}))
		if received := await(t, deliveries).Body; !bytes.Equal(received, body) {
			t.Errorf("%d octets came back as %d", size, len(received))
		}
	}
}

func TestAllPropertiesArriveUnchanged(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	uri, err := amqp.ParseURI(url())
	must(t, err)
	must(t, s.Publish("", queue, false, false, amqp.Publishing{
		ContentType:     "application/json",
		ContentEncoding: "identity",
		DeliveryMode:    amqp.Persistent,
		Priority:        7,
		CorrelationId:   "correlation",
		ReplyTo:         "reply.queue",
		Expiration:      "3600000",
		MessageId:       "message-1",
		Timestamp:       time.Unix(1_700_000_000, 0),
		Type:            "order.created",
		UserId:          uri.Username,
		AppId:           "conformance",
	}))
	m := await(t, s.consume(queue, true))
	received := fmt.Sprint(m.ContentType, " ", m.ContentEncoding, " ", m.DeliveryMode, " ", m.Priority, " ",
		m.CorrelationId, " ", m.ReplyTo, " ", m.Expiration, " ", m.MessageId, " ", m.Timestamp.Unix(), " ",
		m.Type, " ", m.UserId, " ", m.AppId)
	expected := "application/json identity 2 7 correlation reply.queue 3600000 message-1 1700000000 " +
		"order.created " + uri.Username + " conformance"
	if received != expected {
		t.Errorf("received %s\nexpected %s", received, expected)
	}
}

func TestHeadersOfEveryTypeArriveUnchanged(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	headers := amqp.Table{
		"true":         true,
		"false":        false,
		"byte":         byte(math.MaxUint8),
		"int8":         int8(math.MinInt8),
		"int16":        int16(math.MinInt16),
		"uint16":       uint16(math.MaxUint16),
		"int32":        int32(math.MinInt32),
		"uint32":       uint32(math.MaxUint32),
		"int64":        int64(math.MinInt64),
		"float32":      float32(-1.5),
		"float64":      math.Pi,
		"decimal":      amqp.Decimal{Scale: 2, Value: -314},
		"string":       "sch\u00f6n \u2603",
		"empty string": "",
		"bytes":        []byte{0, 0xff, 0},
		"timestamp":    time.Unix(1_700_000_000, 0),
		"nil":          nil,
		"array":        []any{int32(1), "two", nil, []any{false}, amqp.Table{"three": int8(3)}},
		"table":        amqp.Table{"deep": amqp.Table{"deeper": amqp.Table{}}},
	}
	must(t, s.Publish("", queue, false, false, amqp.Publishing{Headers: headers}))
	received := await(t, s.consume(queue, true)).Headers
	for name, value := range headers {
		if !reflect.DeepEqual(received[name], value) {
			t.Errorf("%s: received %#v, expected %#v", name, received[name], value)
		}
	}
	if len(received) != len(headers) {
		t.Errorf("received %d headers, expected %d", len(received), len(headers))
	}
}

func TestADeliveryNamesItsOrigin(t *testing.T) {
	s := newSession(t)
	exchange := s.declareExchange("exchange", "topic", nil)
	queue := s.boundQueue("queue", exchange, "#", nil)
	deliveries, err := s.Consume(queue, "named", true, false, false, false, nil)
	must(t, err)
	s.publish(exchange, "some.key", "1")
	m := await(t, deliveries)
	if m.Exchange != exchange || m.RoutingKey != "some.key" || m.ConsumerTag != "named" ||
		m.DeliveryTag != 1 || m.Redelivered {
		t.Errorf("delivered %+v", m)
	}
}
