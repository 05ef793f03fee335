"""SIGTERM, SIGINT and SIGHUP from the first line of ours on; imports nothing that takes time.

The kernel drops a signal to process 1 that has no handler, and a container's process is that.
"""

import os
import signal
import sys
from collections.abc import Callable

OF_THE_END = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
Receiver = Callable[[signal.Signals], None]


class _Handler:
    """Hands signals over to whoever has begun something; until then they end the process at once, with code 0."""

    def __init__(self) -> None:
        self.receiver: Receiver | None = None

    def __call__(self, number: int, _frame: object) -> None:
        if self.receiver is None:
            os._exit(0)
        self.receiver(signal.Signals(number))


_handler = _Handler()


def take_signals() -> None:
    """Handle signals where `run` is what the command line says; every other command ends by them as any program."""
    if sys.argv[1:2] not in ([], ["run"]):
        return
    for number in OF_THE_END:
        # nohup means that its program goes on.
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handler)


def hand_over_signals(receiver: Receiver) -> None:
    """Call `receiver`, in the main thread between any two steps of it, for each signal from now on."""
    _handler.receiver = receiver
