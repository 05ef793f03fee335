"""Ids of nodes, of the Go producer and of any other: two languages apply the same rule to them."""

GO_NODES = ("producer-1", "peekaping-producer-7d9f-4711", "-0")
OTHER_NODES = (
    "host",
    "host-1x",
    "4711",
    "producer-",
    "producer-1\n",
    "producer-٣",
    "host-1-a1b2",
    "host-4711-n0a1b2c3d",
    "host-4711-n00000000",
)
