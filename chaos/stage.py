"""All that takes part in a run: Redis, the database, the nodes, the worker, and the network between them."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis

from chaos.database import ChaosDatabase
from chaos.editor import Editor
from chaos.evidence import Evidence, Incident
from chaos.network import Network
from chaos.nodes import Node
from chaos.observer import Observer
from chaos.plan import NODES
from chaos.redis_server import ChaosRedis
from chaos.worker import Worker, read_ledger
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.redisdb.keys import DUE, LEASE
from support.asynq_peer import build
from support.server_process import free_port

_READY_WITHIN_S: Final = 60.0
_WHOLE_WITHIN_S: Final = 20.0
_DATABASE_DELAY_S: Final = 0.02
"""Added to each round trip to the database, so that claims last long enough to be hit."""
_LOGGED: Final = {"MODE": "prod", "LOG_LEVEL": "info", "REDIS_HOST": "127.0.0.1", "PRODUCER_CONCURRENCY": "4"}


class Stage:
    """Everything of one run, from `with` to the end of the block; logs and the ledger stay in `folder`."""

    def __init__(self, database: str, folder: Path, programs: Path, *, for_hours: bool = False) -> None:
        """Choose the kind of database; `programs` keeps the worker that is built once. `for_hours`: see ChaosRedis."""
        self.redis = ChaosRedis(folder, for_hours=for_hours)
        self.database = ChaosDatabase(database, folder)
        self.network = Network()
        self.observer = Observer(self.redis.client)
        self.editor = Editor(self.database, self.redis.client)
        self.nodes: list[Node] = []
        self.began_ms = 0
        self.ledger = folder / "ledger.jsonl"
        self._folder, self._programs = folder, programs
        self._stack = ExitStack()
        self._problems: list[str] = []
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        """Start all but the nodes and the worker."""
        for part in (self.redis, self.database, self.network):
            try:
                self._stack.enter_context(part)
            except BaseException:
                self._stack.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End everything."""
        self._stack.close()

    def begin(self, *, worker_flags: Sequence[str] = ("-concurrency=20", "-delay=5ms"), observe: bool = True) -> None:
        """Start the worker and the nodes on the monitors that the editor has made; wait until all are at work."""
        self._worker = self.add_worker(self.ledger, *worker_flags)
        for number in range(NODES):
            node = self._node(number)
            self.nodes.append(node)
            self._stack.callback(node.terminate)
            node.start()
        self.until(lambda: all(node.at_work for node in self.nodes), "all nodes are at work")
        self.until(self.is_whole, "the schedule is complete")
        if observe:
            self._stack.enter_context(self.observer)
        self.began_ms = now_ms()

    def add_worker(self, ledger: Path, *flags: str) -> Worker:
        """Start a worker, which ends with the stage."""
        link = self.network.link(lambda: self.redis.port)
        return self._stack.enter_context(Worker(build(self._programs), link.port, ledger, *flags))

    def _node(self, number: int) -> Node:
        redis_link = self.network.link(lambda: self.redis.port)
        port = self.database.port
        database_link = None
        if port is not None:
            database_port = port
            database_link = self.network.link(lambda: database_port, _DATABASE_DELAY_S)
        variables = self.database.variables(database_link.port if database_link else None)
        http_port = free_port()
        variables |= _LOGGED | {"REDIS_PORT": str(redis_link.port), "PRODUCER_HTTP_PORT": str(http_port)}
        return Node(number, self._folder, variables, redis_link, database_link, http_port)

    def watch(self) -> None:
        """Read what the nodes have logged, and see whether the worker is there."""
        for node in self.nodes:
            node.watch()
        if self._worker is not None and self._worker.ended:
            raise RuntimeError(f"the worker ended: {self.ledger.with_suffix('.log').read_text()[-500:]}")

    def until(self, condition: Callable[[], bool], what: str, within_s: float = _READY_WITHIN_S) -> None:
        """Wait for a condition.

        Raises RuntimeError if it does not come to hold.
        """
        give_up_s = time.monotonic() + within_s
        while not condition():
            self.watch()
            if time.monotonic() > give_up_s:
                raise RuntimeError(f"waited {within_s:g} s, but not yet: {what}; {self.node_problems()}")
            time.sleep(0.02)

    def is_whole(self) -> bool:
        """Return whether the schedule has exactly the active monitors."""
        return not self._out_of_place()

    def _out_of_place(self) -> set[str]:
        try:
            with self.redis.client() as client:
                far_ms = client.time()[0] * 1000 + self.editor.longest_s * 1500 + 1000
                scheduled = {id_.decode() for key in (DUE, LEASE) for id_ in client.zrangebyscore(key, "-inf", far_ms)}
        except redis.RedisError:
            return {"Redis does not answer"}
        return scheduled ^ self.editor.ids

    def end(self) -> None:
        """Wait until the schedule is complete; note what is missing for ever, or left for ever."""
        try:
            self.until(self.is_whole, "the schedule is complete", _WHOLE_WITHIN_S)
        except RuntimeError:
            wrong = self._out_of_place()
            missing, left = sorted(wrong & self.editor.ids), sorted(wrong - self.editor.ids)
            if missing:
                self._problems.append(f"lost for ever: not in the schedule at the end: {missing}")
            if left:
                self._problems.append(f"in the schedule at the end, deleted or inactive: {left}")

    def node_problems(self) -> list[str]:
        """Return what nodes did not expect so far."""
        return [problem for node in self.nodes for problem in node.problems]

    def evidence(self, incidents: list[Incident]) -> Evidence:
        """Return what the run has shown, up to now."""
        checks, unreadable = read_ledger(self.ledger)
        return Evidence(
            began_ms=self.began_ms,
            ended_ms=now_ms(),
            checks=tuple(checks),
            lives=self.editor.lives(),
            incidents=tuple(sorted(incidents, key=lambda incident: incident.began_ms)),
            claimed=self.observer.claimed,
            active=self.observer.active,
            stalls=self.observer.stalls,
            problems=(*self._problems, *self.node_problems(), *unreadable),
        )
