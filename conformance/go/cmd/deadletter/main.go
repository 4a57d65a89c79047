// Command deadletter declares a work queue whose messages live for some time
// and then move to a dead-letter queue, and sends each of its arguments there.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(tasks []string) error {
	connection, err := amqp.Dial(setting("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer connection.Close()

	channel, err := connection.Channel()
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	work := setting("WORK_QUEUE", "work")
	if err := declare(channel, work); err != nil {
		return err
	}
	if err := channel.Confirm(false); err != nil {
		return fmt.Errorf("ask for confirms: %w", err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, task := range tasks {
		confirmation, err := channel.PublishWithDeferredConfirmWithContext(
			ctx, "", work, true, false, amqp.Publishing{
				DeliveryMode: amqp.Persistent,
				ContentType:  "text/plain",
				Body:         []byte(task),
			})
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		if confirmed, err := confirmation.WaitContext(ctx); err != nil || !confirmed {
			return fmt.Errorf("the broker did not take %q: %v", task, err)
		}
		fmt.Println("sent", task)
	}
	return nil
}

// declare makes the work queue, and the exchange and queue for what dies in it.
func declare(channel *amqp.Channel, work string) error {
	dead := work + ".dead"
	if err := channel.ExchangeDeclare(dead, "fanout", true, false, false, false, nil); err != nil {
		return fmt.Errorf("declare the dead-letter exchange: %w", err)
	}
	if _, err := channel.QueueDeclare(dead, true, false, false, false, nil); err != nil {
		return fmt.Errorf("declare the dead-letter queue: %w", err)
	}
	if err := channel.QueueBind(dead, "", dead, false, nil); err != nil {
		return fmt.Errorf("bind the dead-letter queue: %w", err)
	}
	ttl, err := strconv.ParseInt(setting("WORK_TTL_MS", "60000"), 10, 64)
	if err != nil {
		return fmt.Errorf("WORK_TTL_MS: %w", err)
	}
	_, err = channel.QueueDeclare(work, true, false, false, false, amqp.Table{
		"x-dead-letter-exchange": dead,
		"x-message-ttl":          ttl,
	})
	if err != nil {
		return fmt.Errorf("declare the work queue: %w", err)
	}
	return nil
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
