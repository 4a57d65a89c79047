package conformance

import (
	"fmt"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestTheDefaultExchangeRoutesByQueueName(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1")
	s.expectReady(queue, 1)
}

func TestADirectExchangeRoutesByEqualKey(t *testing.T) {
	s := newSession(t)
	exchange := s.declareExchange("exchange", "direct", nil)
	red := s.boundQueue("red", exchange, "red", nil)
	blue := s.boundQueue("blue", exchange, "blue", nil)
	both := s.boundQueue("both", exchange, "red", nil)
	must(t, s.QueueBind(both, "blue", exchange, false, nil))
	s.publish(exchange, "red", "1")
	s.publish(exchange, "RED", "2")
	s.expectReady(red, 1)
	s.expectReady(blue, 0)
	s.expectReady(both, 1)
}

func TestAFanoutExchangeRoutesToEveryQueue(t *testing.T) {
	s := newSession(t)
	exchange := s.declareExchange("exchange", "fanout", nil)
	one := s.boundQueue("one", exchange, "ignored", nil)
	two := s.boundQueue("two", exchange, "", nil)
	s.publish(exchange, "another", "1")
	s.expectReady(one, 1)
	s.expectReady(two, 1)
}

func TestATopicExchangeMatchesWords(t *testing.T) {
	for _, row := range []struct {
		pattern  string
		matching []string
		others   []string
	}{
		{"log.*", []string{"log.info", "log."}, []string{"log", "log.info.disk"}},
		{"log.#", []string{"log", "log.info", "log.info.disk"}, []string{"xlog", ""}},
		{"#.disk", []string{"disk", "a.disk", "a.b.disk"}, []string{"disk.a", "adisk"}},
		{"a.*.#.z", []string{"a.b.z", "a.b.c.z"}, []string{"a.z", "a.b"}},
		{"#", []string{"", "a", "a.b"}, nil},
	} {
		t.Run(row.pattern, func(t *testing.T) {
			s := newSession(t)
			exchange := s.declareExchange("exchange", "topic", nil)
			queue := s.boundQueue("queue", exchange, row.pattern, nil)
			for _, key := range append(row.matching, row.others...) {
				s.publish(exchange, key, key)
			}
			s.expectReady(queue, len(row.matching))
			expectBodies(t, s.consume(queue, true), row.matching...)
		})
	}
}

func TestAHeadersExchangeMatchesArguments(t *testing.T) {
	for i, row := range []struct {
		match   string
		headers amqp.Table
		arrives int
	}{
		{"all", amqp.Table{"a": int32(1), "b": "two", "c": true}, 1},
		{"all", amqp.Table{"a": int32(1)}, 0},
		{"any", amqp.Table{"a": int32(1)}, 1},
		{"any", amqp.Table{"a": int32(2)}, 0},
		{"any", nil, 0},
	} {
		t.Run(fmt.Sprint(i, row.match), func(t *testing.T) {
			s := newSession(t)
			exchange := s.declareExchange("exchange", "headers", nil)
			arguments := amqp.Table{"x-match": row.match, "a": int32(1), "b": "two"}
			queue := s.boundQueue("queue", exchange, "", arguments)
			s.confirmed(s.publisher, exchange, "", false, amqp.Publishing{Headers: row.headers})
			s.expectReady(queue, row.arrives)
		})
	}
}

func TestExchangesBindToExchanges(t *testing.T) {
	s := newSession(t)
	source := s.declareExchange("source", "topic", nil)
	destination := s.declareExchange("destination", "fanout", nil)
	queue := s.boundQueue("queue", destination, "", nil)
	must(t, s.ExchangeBind(destination, "log.#", source, false, nil))
	s.publish(source, "log.info", "1")
	s.publish(source, "other", "2")
	s.expectReady(queue, 1)
	must(t, s.ExchangeUnbind(destination, "log.#", source, false, nil))
	s.publish(source, "log.info", "3")
	s.expectReady(queue, 1)
}

func TestTheAlternateExchangeTakesWhatIsUnroutable(t *testing.T) {
	s := newSession(t)
	alternate := s.declareExchange("alternate", "fanout", nil)
	exchange := s.declareExchange("exchange", "direct", amqp.Table{"alternate-exchange": alternate})
	routed := s.boundQueue("routed", exchange, "key", nil)
	rest := s.boundQueue("rest", alternate, "", nil)
	s.publish(exchange, "key", "1")
	s.publish(exchange, "unknown", "2")
	s.expectReady(routed, 1)
	s.expectReady(rest, 1)
}

func TestUnbindingStopsTheFlow(t *testing.T) {
	s := newSession(t)
	exchange := s.declareExchange("exchange", "direct", nil)
	queue := s.boundQueue("queue", exchange, "key", nil)
	s.publish(exchange, "key", "1")
	must(t, s.QueueUnbind(queue, "key", exchange, nil))
	s.publish(exchange, "key", "2")
	s.expectReady(queue, 1)
}

func TestRedeclaringAnEqualQueueCounts(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1", "2")
	must(t, s.Qos(1, 0, false))
	s.consume(queue, false)
	declared, err := s.QueueDeclare(queue, true, false, false, false, nil)
	must(t, err)
	if declared.Messages != 1 || declared.Consumers != 1 || declared.Name != queue {
		t.Errorf("declared %+v", declared)
	}
}

func TestRedeclaringAnUnequalQueueIs406(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	_, err := s.QueueDeclare(queue, true, true, false, false, nil)
	expectError(t, err, amqp.PreconditionFailed, "PRECONDITION_FAILED - inequivalent arg 'auto_delete' "+
		"for queue '"+queue+"' in vhost '/': received 'true' but current is 'false'")
}

func TestRedeclaringAQueueWithOtherArgumentsIs406(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", amqp.Table{"x-message-ttl": int32(60000)})
	_, err := s.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-message-ttl": int32(1)})
	expectError(t, err, amqp.PreconditionFailed, "inequivalent arg 'x-message-ttl' for queue '"+queue+"'")
}

func TestAnUnknownQueueArgumentDoesNotMatter(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", amqp.Table{"x-conformance": "one"})
	_, err := s.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-conformance": "two"})
	must(t, err)
}

func TestAnInvalidQueueArgumentIs406(t *testing.T) {
	s := newSession(t)
	_, err := s.QueueDeclare(s.name("queue"), true, false, false, false, amqp.Table{"x-message-ttl": "soon"})
	expectError(t, err, amqp.PreconditionFailed, "invalid arg 'x-message-ttl'")
}

func TestRedeclaringAnUnequalExchangeIs406(t *testing.T) {
	s := newSession(t)
	exchange := s.declareExchange("exchange", "direct", nil)
	err := s.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil)
	expectError(t, err, amqp.PreconditionFailed, "inequivalent arg 'type' for exchange '"+exchange+"' "+
		"in vhost '/': received 'fanout' but current is 'direct'")
}

func TestAPassiveDeclareOfSomethingMissingIs404(t *testing.T) {
	s := newSession(t)
	_, err := s.QueueDeclarePassive("conformance.missing", true, false, false, false, nil)
	expectError(t, err, amqp.NotFound, "NOT_FOUND - no queue 'conformance.missing' in vhost '/'")
	channel := openChannel(t, s.connection)
	err = channel.ExchangeDeclarePassive("conformance.missing", "direct", true, false, false, false, nil)
	expectError(t, err, amqp.NotFound, "NOT_FOUND - no exchange 'conformance.missing' in vhost '/'")
}

func TestDeletingCountsAndTakesConditions(t *testing.T) {
	s := newSession(t)
	queue := s.declareQueue("queue", nil)
	s.publish("", queue, "1", "2", "3")
	_, err := openChannel(t, s.connection).QueueDelete(queue, false, true, false)
	expectError(t, err, amqp.PreconditionFailed, "queue '"+queue+"' in vhost '/' not empty")
	if purged, err := s.QueuePurge(queue, false); err != nil || purged != 3 {
		t.Errorf("purged %d, %v", purged, err)
	}
	s.publish("", queue, "4")
	s.get(queue, false)
	s.publish("", queue, "5")
	if deleted, err := s.QueueDelete(queue, false, false, false); err != nil || deleted != 1 {
		t.Errorf("deleted %d, %v", deleted, err)
	}
	if deleted, err := s.QueueDelete(queue, false, false, false); err != nil || deleted != 0 {
		t.Errorf("deleted what is missing: %d, %v", deleted, err)
	}
}

func TestAReservedNameIs403(t *testing.T) {
	s := newSession(t)
	_, err := s.QueueDeclare("amq.conformance", true, false, false, false, nil)
	expectError(t, err, amqp.AccessRefused, "queue name 'amq.conformance' contains reserved prefix 'amq.*'")
}
