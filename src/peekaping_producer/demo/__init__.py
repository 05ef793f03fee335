"""The demo: a small Peekaping on this machine, with sample monitors, targets and a worker, to see the producer work."""
