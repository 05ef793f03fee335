package main

import (
	"errors"
	"flag"
	"time"

	"github.com/hibiken/asynq"
)

type inspection struct {
	Queues  []string     `json:"queues"`
	Queue   *queueState  `json:"queue"` // null: no such queue
	Task    *taskState   `json:"task"`  // null: not asked for, or no such task
	Servers []serverInfo `json:"servers"`
}

type queueState struct {
	Size        int   `json:"size"`
	Pending     int   `json:"pending"`
	Active      int   `json:"active"`
	Scheduled   int   `json:"scheduled"`
	Retry       int   `json:"retry"`
	Archived    int   `json:"archived"`
	Completed   int   `json:"completed"`
	Aggregating int   `json:"aggregating"`
	Processed   int   `json:"processed"`
	Failed      int   `json:"failed"`
	Paused      bool  `json:"paused"`
	LatencyMs   int64 `json:"latency_ms"` // how long the oldest pending task has waited
}

type taskState struct {
	ID          string            `json:"id"`
	Queue       string            `json:"queue"`
	Type        string            `json:"type"`
	State       string            `json:"state"`
	PayloadText string            `json:"payload_text"`
	Headers     map[string]string `json:"headers"`
	TimeoutS    int64             `json:"timeout_s"`
	DeadlineMs  int64             `json:"deadline_ms"` // 0: none
	RetentionS  int64             `json:"retention_s"`
	MaxRetry    int               `json:"max_retry"`
	Retried     int               `json:"retried"`
	LastError   string            `json:"last_error"`
	Group       string            `json:"group"`
	Orphaned    bool              `json:"orphaned"`
}

type serverInfo struct {
	ID     string   `json:"id"`
	PID    int      `json:"pid"`
	Status string   `json:"status"`
	Tasks  []string `json:"tasks"` // ids of those it runs now
}

func inspect(arguments []string) (any, error) {
	var id string
	t := parse("inspect", arguments, func(set *flag.FlagSet) { set.StringVar(&id, "task", "", "id of a task to look up") })
	inspector := asynq.NewInspector(t.options())
	defer inspector.Close()

	queues, err := inspector.Queues()
	if err != nil {
		return nil, err
	}
	queue, err := inspector.GetQueueInfo(t.queue)
	if err != nil && !errors.Is(err, asynq.ErrQueueNotFound) {
		return nil, err
	}
	servers, err := inspector.Servers()
	if err != nil {
		return nil, err
	}
	answer := inspection{Queues: append([]string{}, queues...), Queue: stateOfQueue(queue), Servers: stateOfServers(servers)}
	if id == "" || queue == nil {
		return answer, nil
	}
	task, err := inspector.GetTaskInfo(t.queue, id)
	if err != nil && !errors.Is(err, asynq.ErrTaskNotFound) {
		return nil, err
	}
	answer.Task = stateOfTask(task)
	return answer, nil
}

func stateOfQueue(q *asynq.QueueInfo) *queueState {
	if q == nil {
		return nil
	}
	return &queueState{
		Size: q.Size, Pending: q.Pending, Active: q.Active, Scheduled: q.Scheduled, Retry: q.Retry, Archived: q.Archived,
		Completed: q.Completed, Aggregating: q.Aggregating, Processed: q.Processed, Failed: q.Failed, Paused: q.Paused,
		LatencyMs: q.Latency.Milliseconds(),
	}
}

func stateOfTask(t *asynq.TaskInfo) *taskState {
	if t == nil {
		return nil
	}
	state := taskState{
		ID: t.ID, Queue: t.Queue, Type: t.Type, State: t.State.String(), PayloadText: string(t.Payload), Headers: t.Headers,
		TimeoutS: int64(t.Timeout / time.Second), RetentionS: int64(t.Retention / time.Second), MaxRetry: t.MaxRetry,
		Retried: t.Retried, LastError: t.LastErr, Group: t.Group, Orphaned: t.IsOrphaned,
	}
	if !t.Deadline.IsZero() {
		state.DeadlineMs = t.Deadline.UnixMilli()
	}
	return &state
}

func stateOfServers(servers []*asynq.ServerInfo) []serverInfo {
	infos := []serverInfo{}
	for _, s := range servers {
		info := serverInfo{ID: s.ID, PID: s.PID, Status: s.Status, Tasks: []string{}}
		for _, w := range s.ActiveWorkers {
			info.Tasks = append(info.Tasks, w.TaskID)
		}
		infos = append(infos, info)
	}
	return infos
}

func enqueue(arguments []string) (any, error) {
	var id, taskType, payload, group string
	var timeout, delay, retention, unique time.Duration
	var maxRetry int
	t := parse("enqueue", arguments, func(set *flag.FlagSet) {
		set.StringVar(&id, "task", "", "id of the task; empty: asynq makes one")
		set.StringVar(&taskType, "type", "monitor:healthcheck", "task type")
		set.StringVar(&payload, "payload", "{}", "payload, as it is")
		set.StringVar(&group, "group", "", "group to aggregate into")
		set.DurationVar(&timeout, "timeout", 30*time.Second, "how long it may run")
		set.DurationVar(&delay, "delay", 0, "how long to wait before it is pending")
		set.DurationVar(&retention, "retention", 0, "how long it is kept once completed")
		set.DurationVar(&unique, "unique", 0, "how long to hold a uniqueness lock")
		set.IntVar(&maxRetry, "max-retry", 0, "how often to try again")
	})
	options := []asynq.Option{asynq.Queue(t.queue), asynq.Timeout(timeout), asynq.MaxRetry(maxRetry), asynq.Retention(retention)}
	if id != "" {
		options = append(options, asynq.TaskID(id))
	}
	if group != "" {
		options = append(options, asynq.Group(group))
	}
	if delay > 0 {
		options = append(options, asynq.ProcessIn(delay))
	}
	if unique > 0 {
		options = append(options, asynq.Unique(unique))
	}
	client := asynq.NewClient(t.options())
	defer client.Close()
	task, err := client.Enqueue(asynq.NewTask(taskType, []byte(payload)), options...)
	return stateOfTask(task), err
}

func archive(arguments []string) (any, error) {
	return onTask("archive", arguments, (*asynq.Inspector).ArchiveTask)
}

func run(arguments []string) (any, error) {
	return onTask("run", arguments, (*asynq.Inspector).RunTask)
}

func remove(arguments []string) (any, error) {
	return onTask("delete", arguments, (*asynq.Inspector).DeleteTask)
}

func pause(arguments []string) (any, error) {
	return onQueue("pause", arguments, (*asynq.Inspector).PauseQueue)
}

func unpause(arguments []string) (any, error) {
	return onQueue("unpause", arguments, (*asynq.Inspector).UnpauseQueue)
}

func onTask(name string, arguments []string, act func(i *asynq.Inspector, queue, id string) error) (any, error) {
	var id string
	t := parse(name, arguments, func(set *flag.FlagSet) { set.StringVar(&id, "task", "", "id of the task") })
	inspector := asynq.NewInspector(t.options())
	defer inspector.Close()
	return struct{}{}, act(inspector, t.queue, id)
}

func onQueue(name string, arguments []string, act func(i *asynq.Inspector, queue string) error) (any, error) {
	t := parse(name, arguments, func(*flag.FlagSet) {})
	inspector := asynq.NewInspector(t.options())
	defer inspector.Close()
	return struct{}{}, act(inspector, t.queue)
}

// kindOf names the refusals that tests expect.
func kindOf(err error) string {
	switch {
	case errors.Is(err, asynq.ErrTaskIDConflict):
		return "task_id_conflict"
	case errors.Is(err, asynq.ErrDuplicateTask):
		return "duplicate_task"
	case errors.Is(err, asynq.ErrTaskNotFound):
		return "task_not_found"
	case errors.Is(err, asynq.ErrQueueNotFound):
		return "queue_not_found"
	default:
		return "other"
	}
}
