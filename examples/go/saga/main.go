// Command saga shows a change that spans several services, each with its own data, and its compensation.
//
// There is no transaction over services. An order goes through steps (reserve the goods, take the money, ship), each of
// which a service commits alone; when one fails, those that were done are undone in reverse order.
//
// The state of the saga travels in the message (a routing slip): which steps are to do, which are done, and whether it
// goes forwards or backwards. A service handles its step, publishes the message to the next, waits for the confirm, and
// acknowledges then: if it dies anywhere in between the message comes again, and the saga goes on. So a step may come
// twice, and each service keeps the sagas that it has handled, in the transaction of its own data.
//
// A compensation must not fail for good: it is repeated until it succeeds.
//
// The demonstration: one order that succeeds, one whose shipping fails, and one message that comes twice.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	prefix = "examples.saga."
	ended  = prefix + "ended"
)

var steps = []string{"stock", "payment", "shipping"}

// A slip is the state of one saga.
type slip struct {
	Order string   `json:"order"`
	ToDo  []string `json:"to_do"`
	Done  []string `json:"done"`
	// Why the saga goes backwards; empty while it goes forwards.
	Failure string `json:"failure,omitempty"`
}

// next says which queue is to have the slip: of the next step, of the last one to be undone, or of what has ended.
func (s *slip) next() string {
	switch {
	case s.Failure == "" && len(s.ToDo) > 0:
		return prefix + s.ToDo[0]
	case s.Failure != "" && len(s.Done) > 0:
		return prefix + s.Done[len(s.Done)-1]
	default:
		return ended
	}
}

// A service owns one step. Its ledger stands for its database.
type service struct {
	step  string
	fails string // the order at which it fails

	mutex  sync.Mutex
	ledger map[string]string // order -> "done" or "undone"
	log    []string
}

// handle does or undoes the step, at most once for each order, and moves the slip on.
func (s *service) handle(slip *slip) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	switch {
	case slip.Failure != "":
		if s.ledger[slip.Order] == "done" {
			s.ledger[slip.Order] = "undone"
			s.log = append(s.log, "undo "+slip.Order)
		}
		slip.Done = slip.Done[:len(slip.Done)-1]
	case s.ledger[slip.Order] == "undone": // a late repetition of a slip that went this way before
		slip.Failure = s.step + " was undone before"
	case slip.Order == s.fails:
		slip.Failure = s.step + " refused"
	default:
		if s.ledger[slip.Order] == "" {
			s.ledger[slip.Order] = "done"
			s.log = append(s.log, "do "+slip.Order)
		}
		slip.ToDo, slip.Done = slip.ToDo[1:], append(slip.Done, s.step)
	}
}

func (s *service) history() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return strings.Join(s.log, ", ")
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "not so:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	connection, err := connect()
	if err != nil {
		return err
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	defer deleteQueues(channel)
	if err := declareQueues(channel); err != nil {
		return err
	}
	services := map[string]*service{}
	for _, step := range steps {
		services[step] = &service{step: step, ledger: map[string]string{}}
		if err := start(ctx, connection, services[step]); err != nil {
			return err
		}
	}
	services["shipping"].fails = "huge"

	good, bad := slip{Order: "small", ToDo: steps}, slip{Order: "huge", ToDo: steps}
	for _, s := range []slip{good, bad, good} { // good once more, as after a crash before an acknowledgement
		if err := send(ctx, channel, &s); err != nil {
			return err
		}
	}
	ends, err := collect(ctx, channel, 3)
	if err != nil {
		return err
	}
	return check(services, ends)
}

func check(services map[string]*service, ends []string) error {
	if got := strings.Join(ends, "; "); strings.Count(got, "small completed") != 2 ||
		!strings.Contains(got, "huge cancelled: shipping refused") {
		return fmt.Errorf("the sagas ended so: %s", got)
	}
	fmt.Println("seen: one order is completed, one is cancelled because its shipping failed")
	for step, want := range map[string]string{
		"stock":    "do small, do huge, undo huge",
		"payment":  "do small, do huge, undo huge",
		"shipping": "do small",
	} {
		if got := services[step].history(); got != want {
			return fmt.Errorf("%s has done: %s; not: %s", step, got, want)
		}
	}
	fmt.Println("seen: what was done for the cancelled order is undone, and nothing was done twice")
	return nil
}

func connect() (*amqp.Connection, error) {
	url := os.Getenv("AMQP_URL")
	if url == "" {
		url = "amqp://guest:guest@127.0.0.1:5672/"
	}
	return amqp.Dial(url)
}

// declareQueues makes a queue for each step, and one for sagas that have ended, all of them empty.
func declareQueues(channel *amqp.Channel) error {
	if err := deleteQueues(channel); err != nil {
		return err
	}
	for _, step := range steps {
		if _, err := channel.QueueDeclare(prefix+step, true, false, false, false, nil); err != nil {
			return err
		}
	}
	if _, err := channel.QueueDeclare(ended, true, false, false, false, nil); err != nil {
		return err
	}
	return channel.Confirm(false)
}

func deleteQueues(channel *amqp.Channel) error {
	for _, step := range steps {
		if _, err := channel.QueueDelete(prefix+step, false, false, false); err != nil {
			return err
		}
	}
	_, err := channel.QueueDelete(ended, false, false, false)
	return err
}

// send publishes a slip to where it goes next, and returns when the broker has it.
func send(ctx context.Context, channel *amqp.Channel, slip *slip) error {
	body, err := json.Marshal(slip)
	if err != nil {
		return err
	}
	message := amqp.Publishing{DeliveryMode: amqp.Persistent, ContentType: "application/json", Body: body}
	confirmation, err := channel.PublishWithDeferredConfirmWithContext(ctx, "", slip.next(), true, false, message)
	if err != nil {
		return err
	}
	confirmed, err := confirmation.WaitContext(ctx)
	if err == nil && !confirmed {
		err = fmt.Errorf("the broker has refused the slip of %s", slip.Order)
	}
	return err
}

// start has a service handle the slips of its queue in the background, until the connection ends.
func start(ctx context.Context, connection *amqp.Connection, s *service) error {
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	if err := channel.Confirm(false); err != nil {
		return err
	}
	if err := channel.Qos(1, 0, false); err != nil {
		return err
	}
	deliveries, err := channel.ConsumeWithContext(ctx, prefix+s.step, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	go func() {
		for delivery := range deliveries {
			var slip slip
			if err := json.Unmarshal(delivery.Body, &slip); err != nil {
				delivery.Reject(false) // nobody can read it: to the dead letters, where there are any
				continue
			}
			s.handle(&slip)
			if err := send(ctx, channel, &slip); err != nil {
				delivery.Nack(false, true) // the step is remembered, only the message goes on again
				continue
			}
			delivery.Ack(false)
		}
	}()
	return nil
}

// collect takes the given number of slips whose saga has ended.
func collect(ctx context.Context, channel *amqp.Channel, count int) ([]string, error) {
	deliveries, err := channel.ConsumeWithContext(ctx, ended, "", false, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	var ends []string
	for len(ends) < count {
		select {
		case delivery := <-deliveries:
			var slip slip
			if err := json.Unmarshal(delivery.Body, &slip); err != nil {
				return nil, err
			}
			end := slip.Order + " completed"
			if slip.Failure != "" {
				end = slip.Order + " cancelled: " + slip.Failure
			}
			ends = append(ends, end)
			if err := delivery.Ack(false); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("ended so far: %v", ends)
		}
	}
	return ends, nil
}
