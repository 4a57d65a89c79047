// Command publish_subscribe shows publish and subscribe: every subscriber gets every message.
//
// The publisher sends to a fanout exchange and knows no subscriber. A subscriber binds a queue of its own:
//
//   - one that only wants what happens while it looks (a dashboard) takes an exclusive queue with a name from the
//     server, which goes when its connection goes;
//   - one that must not miss anything (billing) takes a durable queue with a name, which collects while it is away.
//
// The demonstration: both listen; both leave; billing finds what happened meanwhile, and a new dashboard does not.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	exchange = "examples.prices"
	billing  = "examples.prices.billing"
)

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
	defer deleteAll(channel)
	if err := deleteAll(channel); err != nil { // the demonstration begins with nothing
		return err
	}
	if err := declare(channel); err != nil {
		return err
	}

	if err := demonstrate(ctx, channel, []string{"1", "2", "3"}, []string{"1", "2", "3"}); err != nil {
		return err
	}
	fmt.Println("seen: each subscriber gets each message")
	if err := publish(ctx, channel, "4", "5"); err != nil {
		return err
	}
	if err := demonstrate(ctx, channel, []string{"6"}, []string{"4", "5", "6"}); err != nil {
		return err
	}
	fmt.Println("seen: the durable subscription has kept what came while nobody listened, the other has not")
	return nil
}

// demonstrate has both subscribers come, hear of new prices, and leave. Billing may find older ones as well.
func demonstrate(ctx context.Context, channel *amqp.Channel, prices, bills []string) error {
	dashboard, err := subscribe(ctx, "")
	if err != nil {
		return err
	}
	defer dashboard.leave()
	accounts, err := subscribe(ctx, billing)
	if err != nil {
		return err
	}
	defer accounts.leave()
	if err := publish(ctx, channel, prices...); err != nil {
		return err
	}
	if err := dashboard.expect(prices); err != nil {
		return fmt.Errorf("dashboard: %w", err)
	}
	if err := accounts.expect(bills); err != nil {
		return fmt.Errorf("billing: %w", err)
	}
	return nil
}

func connect() (*amqp.Connection, error) {
	url := os.Getenv("AMQP_URL")
	if url == "" {
		url = "amqp://guest:guest@127.0.0.1:5672/"
	}
	return amqp.Dial(url)
}

func declare(channel *amqp.Channel) error {
	if err := channel.ExchangeDeclare(exchange, amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
		return err
	}
	if _, err := channel.QueueDeclare(billing, true, false, false, false, nil); err != nil {
		return err
	}
	if err := channel.QueueBind(billing, "", exchange, false, nil); err != nil {
		return err
	}
	return channel.Confirm(false)
}

func deleteAll(channel *amqp.Channel) error {
	if _, err := channel.QueueDelete(billing, false, false, false); err != nil {
		return err
	}
	return channel.ExchangeDelete(exchange, false, false)
}

// publish sends all prices, then waits for their confirms: one round trip for all instead of one for each.
func publish(ctx context.Context, channel *amqp.Channel, prices ...string) error {
	var pending []*amqp.DeferredConfirmation
	for _, price := range prices {
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, ContentType: "text/plain", Body: []byte(price)}
		confirmation, err := channel.PublishWithDeferredConfirmWithContext(ctx, exchange, "", false, false, message)
		if err != nil {
			return err
		}
		pending = append(pending, confirmation)
	}
	for _, confirmation := range pending {
		confirmed, err := confirmation.WaitContext(ctx)
		if err != nil {
			return err
		}
		if !confirmed {
			return fmt.Errorf("the broker has refused message %d", confirmation.DeliveryTag)
		}
	}
	return nil
}

// A subscriber has a connection of its own, as another process would.
type subscriber struct {
	ctx        context.Context
	connection *amqp.Connection
	deliveries <-chan amqp.Delivery
}

// subscribe consumes from a durable queue, or without a name from a new one that is only ours.
func subscribe(ctx context.Context, queue string) (*subscriber, error) {
	connection, err := connect()
	if err != nil {
		return nil, err
	}
	channel, err := connection.Channel()
	if err != nil {
		return nil, err
	}
	if queue == "" {
		declared, err := channel.QueueDeclare("", false, true, true, false, nil)
		if err != nil {
			return nil, err
		}
		queue = declared.Name
		if err := channel.QueueBind(queue, "", exchange, false, nil); err != nil {
			return nil, err
		}
	}
	if err := channel.Qos(100, 0, false); err != nil {
		return nil, err
	}
	deliveries, err := channel.ConsumeWithContext(ctx, queue, "", false, false, false, false, nil)
	return &subscriber{ctx, connection, deliveries}, err
}

// expect takes as many messages as there are prices, and acknowledges each.
func (s *subscriber) expect(prices []string) error {
	var got []string
	for range prices {
		select {
		case delivery := <-s.deliveries:
			got = append(got, string(delivery.Body))
			if err := delivery.Ack(false); err != nil {
				return err
			}
		case <-s.ctx.Done():
			return fmt.Errorf("got %v only, of %v", got, prices)
		}
	}
	if strings.Join(got, " ") != strings.Join(prices, " ") {
		return fmt.Errorf("got %v, not %v", got, prices)
	}
	return nil
}

func (s *subscriber) leave() error {
	return s.connection.Close()
}
