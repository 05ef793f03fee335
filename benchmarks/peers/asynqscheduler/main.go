// Command asynqscheduler runs asynq's own scheduler with many entries, for `make bench`.
//
// All entries are due again after the same time, in the same instant: asynq takes intervals of whole seconds, and counts
// them from its start.
package main

import (
	"flag"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/hibiken/asynq"
)

type provider []*asynq.PeriodicTaskConfig

func (p provider) GetConfigs() ([]*asynq.PeriodicTaskConfig, error) { return p, nil }

func main() {
	address := flag.String("redis", "127.0.0.1:6379", "host:port")
	entries := flag.Int("entries", 100, "how many entries")
	every := flag.Duration("every", 10*time.Second, "how often each is due")
	size := flag.Int("bytes", 600, "of each payload")
	flag.Parse()

	var configs provider
	for number := range *entries {
		// A task's number makes it different from the others: the manager takes equal ones for one.
		payload := fmt.Sprintf("%08d", number)
		payload += strings.Repeat("x", *size-len(payload))
		configs = append(configs, &asynq.PeriodicTaskConfig{
			Cronspec: "@every " + every.String(),
			Task:     asynq.NewTask("bench", []byte(payload)),
		})
	}
	manager, err := asynq.NewPeriodicTaskManager(asynq.PeriodicTaskManagerOpts{
		RedisConnOpt:               asynq.RedisClientOpt{Addr: *address},
		PeriodicTaskConfigProvider: configs,
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := manager.Run(); err != nil {
		log.Fatal(err)
	}
}
