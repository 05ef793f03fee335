"""The task format of asynq 0.25/0.26, the queue that Peekaping's workers take from (PROTOCOL 1 and 2)."""
