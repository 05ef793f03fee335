"""What comes from outside is garbage: only our own errors occur, nothing hangs, no secret appears."""
