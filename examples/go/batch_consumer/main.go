// Command batch_consumer shows a consumer that handles messages in batches: one insert for many rows.
//
// A batch is complete when it is full, or when its first message has waited for some time. It is acknowledged with
// one basic.ack (multiple) after it is written. The prefetch is twice a batch, so that the next one arrives while one
// is written; with a prefetch smaller than a batch none would ever be full.
//
// A batch that cannot be written is requeued with one basic.nack (multiple). All of its messages come again, so
// writing must be idempotent: here rows have a key.
//
// The demonstration: 120 messages in batches of 50, the first write fails; all rows are there in the end.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	queue     = "examples.batches"
	messages  = 120
	batchSize = 50
	batchWait = 100 * time.Millisecond
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
	if _, err := channel.QueueDelete(queue, false, false, false); err != nil { // begin with nothing
		return err
	}
	if _, err := channel.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		return err
	}
	defer channel.QueueDelete(queue, false, false, false)
	if err := publish(ctx, channel); err != nil {
		return err
	}

	rows := &table{rows: map[string]bool{}, failures: 1}
	if err := consume(ctx, channel, rows); err != nil {
		return err
	}
	fmt.Printf("seen: %d rows written in batches of %v\n", len(rows.rows), rows.batches)
	if rows.failures != 0 || rows.batches[0] != batchSize {
		return fmt.Errorf("the batches were %v, and %d failures are still to come", rows.batches, rows.failures)
	}
	left, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		return err
	}
	if left.Messages != 0 {
		return fmt.Errorf("%d messages are left", left.Messages)
	}
	fmt.Println("seen: the batch that failed came again, and nothing is left in the queue")
	return nil
}

func connect() (*amqp.Connection, error) {
	url := os.Getenv("AMQP_URL")
	if url == "" {
		url = "amqp://guest:guest@127.0.0.1:5672/"
	}
	return amqp.Dial(url)
}

func publish(ctx context.Context, channel *amqp.Channel) error {
	if err := channel.Confirm(false); err != nil {
		return err
	}
	var pending []*amqp.DeferredConfirmation
	for number := 0; number < messages; number++ {
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(fmt.Sprint("row ", number))}
		confirmation, err := channel.PublishWithDeferredConfirmWithContext(ctx, "", queue, true, false, message)
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

// consume writes batches until all rows are there. A service would go on until it is told to stop.
func consume(ctx context.Context, channel *amqp.Channel, rows *table) error {
	if err := channel.Qos(2*batchSize, 0, false); err != nil {
		return err
	}
	deliveries, err := channel.ConsumeWithContext(ctx, queue, "batches", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for len(rows.rows) < messages {
		batch, err := collect(ctx, deliveries)
		if err != nil {
			return err
		}
		last := batch[len(batch)-1]
		if err := rows.write(batch); err != nil {
			err = last.Nack(true, true) // with a pause in a service: the fault may last
		} else {
			err = last.Ack(true)
		}
		if err != nil {
			return err
		}
	}
	return channel.Cancel("batches", false)
}

// collect waits for a first message, and then for more until the batch is full or its time is up.
func collect(ctx context.Context, deliveries <-chan amqp.Delivery) ([]amqp.Delivery, error) {
	var batch []amqp.Delivery
	var timeUp <-chan time.Time
	for len(batch) < batchSize {
		select {
		case delivery, open := <-deliveries:
			if !open {
				return nil, errors.New("the consumer was cancelled")
			}
			if len(batch) == 0 {
				timeUp = time.After(batchWait)
			}
			batch = append(batch, delivery)
		case <-timeUp:
			return batch, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return batch, nil
}

// A table stands for the database. It fails as often as it is told to.
type table struct {
	rows     map[string]bool
	batches  []int
	failures int
}

func (t *table) write(batch []amqp.Delivery) error {
	if t.failures > 0 {
		t.failures--
		return errors.New("the database is not there")
	}
	for _, delivery := range batch {
		t.rows[string(delivery.Body)] = true
	}
	t.batches = append(t.batches, len(batch))
	return nil
}
