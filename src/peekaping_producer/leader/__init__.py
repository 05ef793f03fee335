"""Who leads: one term at a time, held in Redis, fenced there, and trusted here no longer than it can last."""
