// Command publish sends each of its arguments to every subscriber of a fanout exchange.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func main() {
	if err := publish(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func publish(messages []string) error {
	connection, err := amqp.Dial(setting("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer connection.Close()

	channel, err := connection.Channel()
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	exchange := setting("LOGS_EXCHANGE", "logs")
	if err := channel.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil); err != nil {
		return fmt.Errorf("declare the exchange: %w", err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, message := range messages {
		err := channel.PublishWithContext(ctx, exchange, "", false, false, amqp.Publishing{
			ContentType: "text/plain",
			Body:        []byte(message),
		})
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		fmt.Println("sent", message)
	}
	return nil
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
