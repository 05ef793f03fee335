"""The fleet as others see it: a record of each node, and the state of the queue that the workers take from."""
