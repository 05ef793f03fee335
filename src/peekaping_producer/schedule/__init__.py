"""The schedule in Redis: which monitors are due, which are claimed, and the one step that turns a claim into a task."""
