// Command subscribe prints what is sent to a fanout exchange, until it is interrupted.
//
// Each subscriber has a queue of its own, which the broker names and which
// goes with the connection: it sees what is sent while it runs.
package main

import (
	"fmt"
	"log"
	"os"
	"os/signal"

	amqp "github.com/rabbitmq/amqp091-go"
)

func main() {
	if err := subscribe(); err != nil {
		log.Fatal(err)
	}
}

func subscribe() error {
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
	queue, err := channel.QueueDeclare("", false, false, true, false, nil)
	if err != nil {
		return fmt.Errorf("declare the queue: %w", err)
	}
	if err := channel.QueueBind(queue.Name, "", exchange, false, nil); err != nil {
		return fmt.Errorf("bind the queue: %w", err)
	}
	messages, err := channel.Consume(queue.Name, "", true, true, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	fmt.Println("subscribed with", queue.Name)

	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	for {
		select {
		case message, open := <-messages:
			if !open {
				return fmt.Errorf("the broker closed the channel")
			}
			fmt.Println("received", string(message.Body))
		case <-interrupted:
			return nil
		}
	}
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
