package conformance

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// build compiles one of the programs in cmd.
func build(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	if output, err := exec.Command("go", "build", "-o", program, "./cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, output)
	}
	return program
}

func command(program string, settings []string, arguments ...string) *exec.Cmd {
	command := exec.Command(program, arguments...)
	command.Env = append(append(os.Environ(), "AMQP_URL="+url()), settings...)
	command.Stderr = os.Stderr
	return command
}

// start runs a program and hands out what it prints, line by line.
func start(t *testing.T, command *exec.Cmd) <-chan string {
	t.Helper()
	output, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		if command.ProcessState == nil {
			command.Process.Kill()
			command.Wait()
		}
	})
	return lines
}

func TestEverySubscriberSeesWhatIsPublished(t *testing.T) {
	s := newSession(t)
	exchange := s.declareExchange("logs", "fanout", nil)
	settings := []string{"LOGS_EXCHANGE=" + exchange}
	publish, subscribe := build(t, "publish"), build(t, "subscribe")

	subscribers := []*exec.Cmd{command(subscribe, settings), command(subscribe, settings)}
	var outputs []<-chan string
	for _, subscriber := range subscribers {
		lines := start(t, subscriber)
		if line := await(t, lines); !strings.HasPrefix(line, "subscribed with amq.gen-") {
			t.Fatalf("the subscriber says %q", line)
		}
		outputs = append(outputs, lines)
	}
	must(t, command(publish, settings, "one", "two").Run())
	for _, lines := range outputs {
		for _, expected := range []string{"received one", "received two"} {
			if line := await(t, lines); line != expected {
				t.Errorf("the subscriber says %q, expected %q", line, expected)
			}
		}
	}
	for _, subscriber := range subscribers {
		must(t, subscriber.Process.Signal(os.Interrupt))
		must(t, subscriber.Wait())
	}
}

func TestTheWorkQueueKeepsItsArguments(t *testing.T) {
	s := newSession(t)
	settings, work, dead := s.work("60000")
	must(t, command(build(t, "deadletter"), settings, "task").Run())
	s.expectReady(work, 1)
	s.expectReady(dead, 0)
	// An equal declaration succeeds, another time to live does not.
	arguments := amqp.Table{"x-dead-letter-exchange": dead, "x-message-ttl": int32(60000)}
	_, err := s.QueueDeclare(work, true, false, false, false, arguments)
	must(t, err)
	arguments["x-message-ttl"] = int32(1)
	_, err = s.QueueDeclare(work, true, false, false, false, arguments)
	expectError(t, err, amqp.PreconditionFailed, "inequivalent arg 'x-message-ttl'")
}

func TestAnExpiredMessageMovesToTheDeadLetterQueue(t *testing.T) {
	s := newSession(t)
	settings, work, dead := s.work("1")
	must(t, command(build(t, "deadletter"), settings, "one", "two").Run())
	for _, m := range expectBodies(t, s.consume(dead, true), "one", "two") {
		if m.RoutingKey != work || m.Exchange != dead {
			t.Errorf("arrived by %s with key %s", m.Exchange, m.RoutingKey)
		}
		deaths, ok := m.Headers["x-death"].([]any)
		if !ok || len(deaths) != 1 {
			t.Fatalf("x-death is %v", m.Headers["x-death"])
		}
		death := deaths[0].(amqp.Table)
		if death["queue"] != work || death["reason"] != "expired" || death["count"] != int64(1) {
			t.Errorf("died of %v", death)
		}
		if at, ok := death["time"].(time.Time); !ok || at.IsZero() {
			t.Errorf("died at %v", death["time"])
		}
	}
	s.expectReady(work, 0)
}

func TestARefusedMessageMovesToTheDeadLetterQueue(t *testing.T) {
	s := newSession(t)
	settings, work, dead := s.work("60000")
	must(t, command(build(t, "deadletter"), settings, "task").Run())
	must(t, s.get(work, false).Nack(false, false))
	m := await(t, s.consume(dead, true))
	if string(m.Body) != "task" || m.Headers["x-first-death-reason"] != "rejected" {
		t.Errorf("received %s with %v", m.Body, m.Headers)
	}
}

// work chooses the names for cmd/deadletter and deletes what it declares.
func (s *session) work(ttlMs string) (settings []string, work, dead string) {
	work = s.name("work")
	dead = work + ".dead"
	s.deleteQueueAfterwards(work)
	s.deleteQueueAfterwards(dead)
	s.deleteExchangeAfterwards(dead)
	return []string{"WORK_QUEUE=" + work, "WORK_TTL_MS=" + ttlMs}, work, dead
}
