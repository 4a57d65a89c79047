// Command request_reply shows requests and replies: a remote call through a queue.
//
// Servers share one queue of requests. The client listens on amq.rabbitmq.reply-to (direct reply-to): the broker passes
// replies straight to it, and there is no queue to declare. It gives each request a correlation id, by which it finds
// the call that a reply belongs to: many calls share one channel, and replies come in any order.
//
// A request expires when the client stops waiting for it: no server works for somebody who has gone. It is mandatory:
// where there is no queue of requests the client learns it at once instead of waiting. A call that timed out may have
// been served nevertheless; a client that repeats it needs a server that recognizes the repetition.
//
// The demonstration: 20 calls at the same time to two servers, and one call that nobody serves.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	requests = "examples.squares"
	replies  = "amq.rabbitmq.reply-to"
	calls    = 20
)

var errNobodyServes = errors.New("nobody serves this request")

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
	for server := 0; server < 2; server++ {
		if err := serve(ctx, connection); err != nil {
			return err
		}
	}
	client, err := newClient(connection)
	if err != nil {
		return err
	}
	defer client.channel.QueueDelete(requests, false, false, false)

	failures := make(chan error, calls)
	for number := 1; number <= calls; number++ {
		go func(number int) { failures <- client.checkSquare(ctx, number) }(number)
	}
	for number := 1; number <= calls; number++ {
		if err := <-failures; err != nil {
			return err
		}
	}
	fmt.Printf("seen: %d calls at the same time, each got its own reply\n", calls)

	if _, err := client.call(ctx, "examples.nobody", "1"); !errors.Is(err, errNobodyServes) {
		return fmt.Errorf("a request that nobody serves ended with: %v", err)
	}
	fmt.Println("seen: a request that nobody serves came back at once")
	return nil
}

func connect() (*amqp.Connection, error) {
	url := os.Getenv("AMQP_URL")
	if url == "" {
		url = "amqp://guest:guest@127.0.0.1:5672/"
	}
	return amqp.Dial(url)
}

// serve answers requests in the background until the connection ends.
func serve(ctx context.Context, connection *amqp.Connection) error {
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	if _, err := channel.QueueDeclare(requests, true, false, false, false, nil); err != nil {
		return err
	}
	if err := channel.Qos(10, 0, false); err != nil {
		return err
	}
	deliveries, err := channel.ConsumeWithContext(ctx, requests, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	go func() {
		for request := range deliveries {
			reply := amqp.Publishing{CorrelationId: request.CorrelationId, Body: []byte(square(request.Body))}
			// The broker has put the address of the client into reply-to. Not mandatory: one that has gone wants no reply.
			if err := channel.PublishWithContext(ctx, "", request.ReplyTo, false, false, reply); err != nil {
				return
			}
			if err := request.Ack(false); err != nil {
				return
			}
		}
	}()
	return nil
}

func square(body []byte) string {
	number, err := strconv.Atoi(string(body))
	if err != nil {
		return "not a number"
	}
	return strconv.Itoa(number * number)
}

// A client has a channel for its requests and their replies, and remembers who waits for which.
type client struct {
	channel *amqp.Channel

	mutex   sync.Mutex
	last    int
	waiting map[string]chan amqp.Delivery // by correlation id; closed when the request came back
}

func newClient(connection *amqp.Connection) (*client, error) {
	channel, err := connection.Channel()
	if err != nil {
		return nil, err
	}
	// Before the first request, and without acknowledgements: direct reply-to requires both.
	deliveries, err := channel.Consume(replies, "", true, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	c := &client{channel: channel, waiting: map[string]chan amqp.Delivery{}}
	go c.dispatch(deliveries, channel.NotifyReturn(make(chan amqp.Return, 1)))
	return c, nil
}

// dispatch hands each reply to the call that waits for it. A reply that comes too late is dropped.
func (c *client) dispatch(deliveries <-chan amqp.Delivery, returns <-chan amqp.Return) {
	for {
		select {
		case reply, open := <-deliveries:
			if !open {
				return
			}
			if caller := c.forget(reply.CorrelationId); caller != nil {
				caller <- reply
			}
		case returned, open := <-returns:
			if !open {
				return
			}
			if caller := c.forget(returned.CorrelationId); caller != nil {
				close(caller)
			}
		}
	}
}

func (c *client) register() (string, chan amqp.Delivery) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.last++
	id, caller := strconv.Itoa(c.last), make(chan amqp.Delivery, 1)
	c.waiting[id] = caller
	return id, caller
}

func (c *client) forget(id string) chan amqp.Delivery {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	caller := c.waiting[id]
	delete(c.waiting, id)
	return caller
}

// call sends a request to a queue and waits for its reply, for at most five seconds.
func (c *client) call(ctx context.Context, queue, body string) (string, error) {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	id, caller := c.register()
	defer c.forget(id)
	request := amqp.Publishing{
		CorrelationId: id,
		ReplyTo:       replies,
		Expiration:    strconv.FormatInt(patience.Milliseconds(), 10),
		Body:          []byte(body),
	}
	if err := c.channel.PublishWithContext(ctx, "", queue, true, false, request); err != nil {
		return "", err
	}
	select {
	case reply, answered := <-caller:
		if !answered {
			return "", errNobodyServes
		}
		return string(reply.Body), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (c *client) checkSquare(ctx context.Context, number int) error {
	reply, err := c.call(ctx, requests, strconv.Itoa(number))
	if err != nil {
		return err
	}
	if reply != strconv.Itoa(number*number) {
		return fmt.Errorf("the square of %d came as %q", number, reply)
	}
	return nil
}
