"""How each fault is made, and how it is ended."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, cast

import redis
from redis.asyncio import Redis

from chaos.evidence import Incident
from chaos.network import Link
from chaos.nodes import Node
from chaos.plan import CHANGES, CUTS, NETWORK, OF_DATABASE, OF_ONE_NODE, Fault, Kind
from chaos.stage import Stage
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.demo.redis_server import HOST
from peekaping_producer.leader.event_message import CREATED, DELETED, UPDATED
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE, LEASE
from support.asynq_states import put_active, put_aggregating, put_in_set, put_malformed, put_pending, task_key

_CLAIMED_WITHIN_S: Final = 2.0
_SETTLED_WITHIN_S: Final = 0.15
"""The longest that a claim of a working node usually lasts."""
_PLANTED: Final = 3
_NOT_DUE_WITHIN_MS: Final = 1_000
_GARBAGE: Final = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe",
    b'{"payload": null}',
    b'{"type": "monitor.updated", "payload": {"id": 7}}',
    b'{"type": "monitor.updated", "payload": {"id": "no-such-id", "active": "perhaps"}}',
    b'{"type": "monitor.deleted", "payload": "00000000-0000-0000-0000-00000000dead"}',
    b'{"type": "monitor.deleted", "payload": ["' + b"x" * 10_000 + b'"]}',
)


class Actions:
    """Makes and ends the faults of a run, and notes them."""

    def __init__(self, stage: Stage, log: Callable[[str], None]) -> None:
        """Take the stage; `log` is called with a line for each thing that happens."""
        self.incidents: list[Incident] = []
        self._stage, self._log = stage, log
        self._began_ms: dict[Fault, int] = {}
        self._database_gone = 0
        self._starting: Fault | None = None

    def begin(self, fault: Fault) -> None:
        """Make a fault."""
        note = ""
        self._began_ms[fault] = now_ms()
        node = self._stage.nodes[fault.node % len(self._stage.nodes)]
        if fault.kind in CHANGES:
            note = self._change(fault)
        elif fault.kind is Kind.STUCK_TASKS:
            note = self._with_redis(lambda: asyncio.run(self._plant(fault)))
        elif fault.kind is Kind.GARBAGE:
            note = self._with_redis(lambda: self._publish_garbage(fault))
        else:
            self._break(fault, node)
        self._log(f"{fault}{note and f': {note}'}")
        if not fault.lasts_s:
            self._note(fault)

    def end(self, fault: Fault) -> None:
        """End a fault that lasts."""
        node = self._stage.nodes[fault.node % len(self._stage.nodes)]
        self._repair(fault, node)
        self._log(f"over: {fault.kind}")
        if fault.kind is Kind.KILL_ALL:
            self._starting = fault
        else:
            self._note(fault)

    def note_started(self) -> None:
        """Note the end of a fault that is over only once a node is at work."""
        if self._starting is not None and any(node.at_work for node in self._stage.nodes):
            self._note(self._starting)
            self._log("a node is at work")
            self._starting = None

    def finish(self) -> None:
        """Note what has not ended."""
        if self._starting is not None:
            self._note(self._starting)

    def _note(self, fault: Fault) -> None:
        self.incidents.append(Incident(fault.kind, self._began_ms[fault], now_ms(), str(fault)))

    # --- processes, connections, servers

    def _break(self, fault: Fault, node: Node) -> None:
        stage = self._stage
        match fault.kind:
            case Kind.KILL | Kind.FREEZE:
                self._freeze_with_a_claim(node)
                self._began_ms[fault] = now_ms()
                if fault.kind is Kind.KILL:
                    node.kill()
            case Kind.TERMINATE:
                node.terminate()
            case Kind.KILL_ALL:
                for one in stage.nodes:
                    one.kill()
            case kind if kind in NETWORK:
                for link in self._links(fault, node):
                    (link.cut if kind in CUTS else link.hang)()
            case Kind.DATABASE_STOPPED | Kind.DATABASE_LOCKED:
                self._database_gone += 1
                (stage.database.stop if fault.kind is Kind.DATABASE_STOPPED else stage.database.lock)()
            case _:
                self._break_redis(fault)

    def _break_redis(self, fault: Fault) -> None:
        server = self._stage.redis
        match fault.kind:
            case Kind.REDIS_KILLED | Kind.RESTORED:
                server.kill()
            case Kind.FLUSHED:
                with server.client() as client:
                    client.flushall()
            case Kind.FAILED_OVER:
                server.fail_over(demote=bool(fault.choice % 2))
            case Kind.MEMORY_FULL:
                server.set_maxmemory(1)
            case Kind.CLOCK_STEPPED:
                server.step_clock()

    def _repair(self, fault: Fault, node: Node) -> None:
        stage = self._stage
        match fault.kind:
            case Kind.KILL | Kind.TERMINATE:
                node.start()
            case Kind.FREEZE:
                node.thaw()
            case Kind.KILL_ALL:
                for one in stage.nodes:
                    one.start()
            case kind if kind in NETWORK:
                for link in self._links(fault, node):
                    link.flow()
            case Kind.DATABASE_STOPPED | Kind.DATABASE_LOCKED:
                (stage.database.restart if fault.kind is Kind.DATABASE_STOPPED else stage.database.unlock)()
                self._database_gone -= 1
            case _:
                self._repair_redis(fault)

    def _repair_redis(self, fault: Fault) -> None:
        server = self._stage.redis
        match fault.kind:
            case Kind.REDIS_KILLED:
                server.restart()
            case Kind.RESTORED:
                self._log(f"the backup is {server.restore(5 + fault.choice % 20):.0f} s old")
            case Kind.FAILED_OVER:
                server.retire_old()
            case Kind.MEMORY_FULL:
                server.set_maxmemory(0)

    def _links(self, fault: Fault, node: Node) -> list[Link]:
        """Return the connections that a fault of the network is about."""
        nodes = [node] if fault.kind in OF_ONE_NODE else self._stage.nodes
        links = [one.database_link if fault.kind in OF_DATABASE else one.redis_link for one in nodes]
        return [link for link in links if link is not None]

    def _freeze_with_a_claim(self, node: Node) -> None:
        """Freeze a node, if possible while it has a claim: only its own claims are stuck from then on."""
        give_up_s = time.monotonic() + _CLAIMED_WITHIN_S
        try:
            with self._stage.redis.client() as client:
                while time.monotonic() < give_up_s:
                    claimed = set(client.zrange(LEASE, 0, -1))
                    if not claimed:
                        # A claim lasts a fraction of a second, so it is waited for closely.
                        time.sleep(0.001)
                        continue
                    node.freeze()
                    time.sleep(_SETTLED_WITHIN_S)
                    if not claimed.isdisjoint(client.zrange(LEASE, 0, -1)):
                        return
                    node.thaw()
        except redis.RedisError:
            pass  # Redis may be broken too; the node is frozen all the same
        node.freeze()

    # --- data

    def _change(self, fault: Fault) -> str:
        if self._database_gone:
            return "left out: the database is gone"
        return self._with_redis(lambda: self._stage.editor.apply(fault))

    @staticmethod
    def _with_redis(act: Callable[[], str]) -> str:
        try:
            return act()
        except (redis.RedisError, OSError) as error:
            return f"Redis is gone ({type(error).__name__})"

    async def _plant(self, fault: Fault) -> str:
        """Plant tasks of monitors that have none, and are not about to get one: no real task may be destroyed."""
        async with Redis(host=HOST, port=self._stage.redis.port, socket_timeout=2) as client:
            seconds, micros = await client.time()
            from_ms = int(seconds) * 1000 + int(micros) // 1000 + _NOT_DUE_WITHIN_MS
            later = cast("list[bytes]", await client.zrangebyscore(DUE, from_ms, "+inf"))
            ids = [MonitorId(id_.decode()) for id_ in sorted(later)]
            chosen = [ids[(fault.choice + number * 7) % len(ids)] for number in range(_PLANTED)] if ids else []
            for number, monitor in enumerate(chosen):
                if not await client.exists(task_key(monitor)):
                    await _put_stuck(client, monitor, fault.choice + number)
        return ", ".join(chosen)

    def _publish_garbage(self, fault: Fault) -> str:
        channels = (CREATED, UPDATED, DELETED)
        with self._stage.redis.client() as client:
            for number, message in enumerate(_GARBAGE):
                client.publish(channels[(fault.choice + number) % len(channels)], message)
        return f"{len(_GARBAGE)} messages"


async def _put_stuck(client: Redis, monitor: MonitorId, choice: int) -> None:
    """Put an earlier task in a monitor's way, in one of the states that asynq knows, or broken."""
    match choice % 9:
        case 0:
            await put_in_set(client, monitor, "archived")
        case 1:
            await put_in_set(client, monitor, "completed")
        case 2:
            await put_in_set(client, monitor, "retry")
        case 3:
            await put_in_set(client, monitor, "scheduled")
        case 4:
            await put_aggregating(client, monitor)
        case 5:
            await put_active(client, monitor, lease_s=1)
        case 6:
            await put_active(client, monitor, lease_s=None)
        case 7:
            await put_pending(client, monitor, listed=False)
        case _:
            await put_malformed(client, monitor, "no state")
