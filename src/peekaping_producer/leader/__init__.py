"""The leader: its term, held and fenced in Redis, and the duties that keep the schedule in step with the database."""
