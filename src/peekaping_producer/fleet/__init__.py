"""What nodes tell each other and people: heartbeats, signals, summaries, and the list of invalid monitors."""
