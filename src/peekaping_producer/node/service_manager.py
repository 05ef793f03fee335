"""Notifies systemd, or another service manager that sets `NOTIFY_SOCKET`, of what sd_notify(3) describes."""

import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Send a state such as `READY=1`; do nothing unless a service manager asks for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    # A service manager that gets no state acts on that by itself.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(state.encode(), socket.MSG_DONTWAIT, address)


class Watchdog:
    """Feeds the service manager's watchdog; the first time it reports instead that the producer has started."""

    def __init__(self) -> None:
        """Begin before the first turn."""
        self._state = "READY=1"

    def feed(self) -> None:
        """Note that the claim loop has turned."""
        notify(self._state)
        self._state = "WATCHDOG=1"
