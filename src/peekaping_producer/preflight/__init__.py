"""What can be found out before the start: `check` prints it, and `run` logs the warnings."""
