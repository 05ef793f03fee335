"""The commands for operators: `check`, `status`, `explain`, `run-now`, `pause`, `resume`, `plan` and `probe`."""
