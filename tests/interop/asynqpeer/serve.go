package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
)

// handled is one task as a worker was given it.
type handled struct {
	Event       string          `json:"event"` // "task"
	ID          string          `json:"id"`
	Type        string          `json:"type"`
	Queue       string          `json:"queue"`
	PayloadText string          `json:"payload_text"`
	Payload     json.RawMessage `json:"payload"` // null unless it is JSON
	ParseError  string          `json:"parse_error"`
	Stale       bool            `json:"stale"`
	StartedMs   int64           `json:"started_ms"`
	DeadlineMs  int64           `json:"deadline_ms"` // 0: none
	Retry       int             `json:"retry"`       // how often it has been tried before
	MaxRetry    int             `json:"max_retry"`

	Headers map[string]string `json:"headers"`
}

// done says that a handler returned; asynq records it a moment later.
type done struct {
	Event     string `json:"event"` // "done"
	ID        string `json:"id"`
	Error     string `json:"error"`
	EndedMs   int64  `json:"ended_ms"`
	Cancelled bool   `json:"cancelled"` // its deadline came, or the server was stopped
}

type worker struct {
	delay time.Duration
	fail  bool
}

func serve(arguments []string) (any, error) {
	var w worker
	var taskType string
	var concurrency int
	var poll, patience time.Duration
	t := parse("serve", arguments, func(set *flag.FlagSet) {
		set.StringVar(&taskType, "type", "monitor:healthcheck", "task type to handle")
		set.IntVar(&concurrency, "concurrency", 10, "tasks at once")
		set.DurationVar(&w.delay, "delay", 0, "how long each task takes")
		set.BoolVar(&w.fail, "fail", false, "end each task with an error")
		set.DurationVar(&poll, "poll", 10*time.Millisecond, "how often to look at an empty queue")
		set.DurationVar(&patience, "patience", 100*time.Millisecond, "how long to wait at the end for running tasks")
	})
	server := asynq.NewServer(t.options(), asynq.Config{
		Concurrency:              concurrency,
		Queues:                   map[string]int{t.queue: 1},
		TaskCheckInterval:        poll,
		DelayedTaskCheckInterval: 100 * time.Millisecond,
		ShutdownTimeout:          patience,
		LogLevel:                 asynq.WarnLevel,
	})
	mux := asynq.NewServeMux()
	mux.HandleFunc(taskType, w.handle)
	ended := askedToEnd()
	if err := server.Start(mux); err != nil {
		return nil, err
	}
	say(map[string]string{"event": "ready"})
	<-ended
	server.Shutdown()
	return map[string]string{"event": "stopped"}, nil
}

// askedToEnd returns a channel that is closed by SIGTERM, SIGINT or the end of stdin, so that no test's end is missed.
func askedToEnd() <-chan struct{} {
	ended := make(chan struct{})
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	input := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(input)
	}()
	go func() {
		select {
		case <-ctx.Done():
		case <-input:
		}
		close(ended)
	}()
	return ended
}

func (w *worker) handle(ctx context.Context, task *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	say(describe(ctx, id, task))
	err := w.work(ctx)
	report := done{Event: "done", ID: id, EndedMs: time.Now().UnixMilli(), Cancelled: ctx.Err() != nil}
	if err != nil {
		report.Error = err.Error()
	}
	say(report)
	return err
}

func (w *worker) work(ctx context.Context) error {
	select {
	case <-time.After(w.delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	if w.fail {
		return errors.New("failed as asked")
	}
	return nil
}

func describe(ctx context.Context, id string, task *asynq.Task) handled {
	now := time.Now()
	h := handled{Event: "task", ID: id, Type: task.Type(), PayloadText: string(task.Payload()), StartedMs: now.UnixMilli()}
	h.Headers = task.Headers()
	h.Queue, _ = asynq.GetQueueName(ctx)
	h.Retry, _ = asynq.GetRetryCount(ctx)
	h.MaxRetry, _ = asynq.GetMaxRetry(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		h.DeadlineMs = deadline.UnixMilli()
	}
	if json.Valid(task.Payload()) {
		h.Payload = task.Payload()
	}
	var check healthCheck
	if err := json.Unmarshal(task.Payload(), &check); err != nil {
		h.ParseError = err.Error()
	}
	h.Stale = check.stale(now)
	return h
}
