"""The nodes: real processes that can be killed, frozen, stopped and started again."""

import os
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from chaos.network import Link
from peekaping_producer.demo.child import Child

AT_WORK: Final = ("leadership taken", "another node leads")
"""What a node logs once all its loops run."""
_UNEXPECTED: Final = frozenset(
    {"loop failed, restarting", "leader task failed, restarting", "batch failed, reading one by one"}
    | {"monitor skipped on error", "row skipped on error", "event dropped on error", "exception ignored"}
    | {"producer failed"}
)
"""What a node logs about an error that the code did not expect: each is a defect."""


class Node:
    """One node, through all its restarts."""

    def __init__(
        self,
        number: int,
        folder: Path,
        variables: Mapping[str, str],
        redis_link: Link,
        database_link: Link | None,
        http_port: int,
    ) -> None:
        """Describe it; nothing runs yet."""
        self.name = f"node {number + 1}"
        self.redis_link, self.database_link = redis_link, database_link
        self.http_port = http_port
        self.events: Counter[str] = Counter()
        """How often it has logged each event."""
        self.problems: list[str] = []
        """Errors that the code did not expect, and ends that nobody asked for."""
        self._folder, self._variables = folder, variables
        self._child: Child | None = None
        self._starts = 0
        self._read_bytes = 0
        self._at_work = False

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._child is not None
        return self._child.pid

    @property
    def at_work(self) -> bool:
        """Whether all its loops have run since its last start."""
        return self._at_work

    def start(self) -> None:
        """Start it; it is not at work yet."""
        self._starts += 1
        self._read_bytes = 0
        log = f"{self.name.replace(' ', '-')}.{self._starts}.log"
        self._child = Child(["-m", "peekaping_producer", "run"], self._folder, log, self._variables)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._child is not None:
            self._child.kill()
            self._gone()

    def terminate(self) -> None:
        """Ask it to stop, and wait."""
        if self._child is not None:
            self._child.stop()
            self._gone()

    def freeze(self) -> None:
        """Let it do nothing."""
        if self._child is not None:
            os.kill(self._child.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._child is not None:
            os.kill(self._child.pid, signal.SIGCONT)

    def watch(self) -> None:
        """Read its log, and note what went wrong."""
        if self._child is None:
            return
        ended = self._child.ended
        self._read_log(self._child.log)
        if ended:
            self.problems.append(f"{self.name} ended by itself: {' | '.join(self._child.last_lines(3))[:400]}")
            self._forget()

    def _gone(self) -> None:
        assert self._child is not None
        self._read_log(self._child.log)
        self._forget()

    def _forget(self) -> None:
        self._child = None
        self._at_work = False

    def _read_log(self, log: Path) -> None:
        with log.open("rb") as file:
            file.seek(self._read_bytes)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            event = _event(line)
            self.events[event] += 1
            self._at_work = self._at_work or event in AT_WORK
            if event in _UNEXPECTED:
                self.problems.append(f"{self.name}: {line.decode(errors='replace')[:400]}")


def _event(line: bytes) -> str:
    """Return what a line says; one that is not JSON is a traceback, or some other surprise."""
    try:
        return str(msgspec.json.decode(line, type=dict[str, object]).get("event", ""))
    except msgspec.DecodeError:
        return "producer failed"
