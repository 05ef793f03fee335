"""Handles SIGTERM, SIGINT and SIGHUP from the first line of our code on, so it imports nothing that takes time.

In a container this is process 1, to which the kernel delivers only signals that it handles.
"""

import os
import signal
import sys
from collections.abc import Callable

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
Receiver = Callable[[signal.Signals], None]


class _Handler:
    """Passes signals on to the receiver; without one, a signal ends the process at once, with code 0."""

    def __init__(self) -> None:
        self.receiver: Receiver | None = None

    def __call__(self, number: int, _frame: object) -> None:
        if self.receiver is None:
            os._exit(0)
        self.receiver(signal.Signals(number))


_handler = _Handler()


def take_signals() -> None:
    """Handle signals if the command is `run`. Other commands keep the default: a signal ends them."""
    if sys.argv[1:2] not in ([], ["run"]):
        return
    for number in STOP_SIGNALS:
        # nohup starts the program with SIGHUP ignored; it stays so.
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handler)


def hand_over_signals(receiver: Receiver) -> None:
    """Call `receiver` for each signal from now on, in the main thread, between any two of its instructions."""
    _handler.receiver = receiver
