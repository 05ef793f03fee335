// Command asynqpeer is the other side of the task queue: the real asynq server, client and inspector, for tests.
//
// Each subcommand prints JSON, one object a line, and exits with 0; what asynq refuses is {"error": "..."} and 1.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"

	"github.com/hibiken/asynq"
)

type command func(arguments []string) (any, error)

var commands = map[string]command{
	"serve":   serve,
	"inspect": inspect,
	"enqueue": enqueue,
	"archive": archive,
	"run":     run,
	"delete":  remove,
	"pause":   pause,
	"unpause": unpause,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: asynqpeer serve|inspect|enqueue|archive|run|delete|pause|unpause [-flags]")
		os.Exit(2)
	}
	result, err := commands[os.Args[1]](os.Args[2:])
	if err != nil {
		say(map[string]string{"error": err.Error(), "kind": kindOf(err)})
		os.Exit(1)
	}
	say(result)
}

var stdout sync.Mutex

// say prints one line of JSON; handlers say things at the same time.
func say(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		fmt.Fprintln(os.Stderr, "asynqpeer:", err)
		os.Exit(2)
	}
	stdout.Lock()
	defer stdout.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

// target holds the flags that every subcommand has.
type target struct {
	redis string
	db    int
	queue string
}

func (t *target) flags(set *flag.FlagSet) {
	set.StringVar(&t.redis, "redis", "127.0.0.1:6379", "host:port")
	set.IntVar(&t.db, "db", 0, "database number")
	set.StringVar(&t.queue, "queue", "healthcheck", "name of the queue")
}

func (t *target) options() asynq.RedisClientOpt {
	return asynq.RedisClientOpt{Addr: t.redis, DB: t.db}
}

func parse(name string, arguments []string, define func(*flag.FlagSet)) target {
	var t target
	set := flag.NewFlagSet(name, flag.ExitOnError)
	t.flags(set)
	define(set)
	set.Parse(arguments) // ExitOnError: it returns no error
	return t
}
