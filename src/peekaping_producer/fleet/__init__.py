"""What nodes report to each other and to operators: heartbeats, signals, summaries, and invalid monitors."""
