"""The scheduler of Peekaping: decides when each monitor is due and queues its health check."""

APPLICATION = "peekaping-producer"
"""The name of the distribution, and of our connections in Redis and in a database."""

__version__: str


def __getattr__(name: str) -> str:
    """Look up the version only when asked: signal handlers come before slow imports (`__main__`)."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import version  # noqa: PLC0415 - see above

    return version(APPLICATION)
