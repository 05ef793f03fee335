"""The commands for operators: `check`, `status`, `explain`, `run-now`, `pause` and `resume`."""
