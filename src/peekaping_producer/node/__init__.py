"""What every loop of a node shares: when to stop, outages, restarts, and the log of both."""
