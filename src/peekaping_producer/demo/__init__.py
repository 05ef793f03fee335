"""The demo: a whole small Peekaping on this machine, with sample monitors, targets and a worker, to see the Producer work."""
