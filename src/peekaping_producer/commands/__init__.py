"""The commands for operators: `status`, `explain` and `run-now`."""
