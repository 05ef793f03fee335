"""The schedule in Redis: who is due, who is claimed, and the one step that turns a claim into a task."""
