"""The scheduler of Peekaping: decides when each monitor is due and queues its health check."""

from importlib.metadata import version

__version__ = version("peekaping-producer")
