"""asynq's task format and keys; Peekaping's workers use asynq 0.25 and 0.26 (docs/protocol.md, sections 1 and 2)."""
