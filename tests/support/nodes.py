"""One node for tests that drive a single loop or duty, with its log lines to read and wait for."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from peekaping_producer.config.settings import ScheduleMode
from peekaping_producer.demo.redis_server import HOST
from peekaping_producer.leader.term import Term
from peekaping_producer.node.node import Node, make_node
from peekaping_producer.node.stop import Stop
from peekaping_producer.timing import Timing
from support.leader_key import LEADER_ID
from support.log_capture import CapturedLog

LONG_S = 3600.0
"""Longer than any test."""


class TestNode(CapturedLog):
    """A node, and what it has logged."""

    __test__ = False

    def __init__(
        self, timing: Timing | None = None, *, id_: str | None = None, mode: ScheduleMode = ScheduleMode.AUTO
    ) -> None:
        super().__init__()
        self.stop = Stop()
        self.node: Node = make_node(self.log, replace(timing or Timing(), often_logged_every_s=0), self.stop, mode, id_)


def a_term(node_id: str = LEADER_ID, lasts_s: float = LONG_S) -> Term:
    """Return a term for a duty that is driven without an election."""
    return Term(node_id, time.monotonic() + lasts_s)


@asynccontextmanager
async def running(*loops: Awaitable[Any]) -> AsyncIterator[list["asyncio.Task[Any]"]]:
    """Run loops for the duration of the block, then cancel them; one that fails fails the test."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_awaited(loop)) for loop in loops]
        yield tasks
        for task in tasks:
            task.cancel()


async def _awaited(loop: Awaitable[Any]) -> Any:
    return await loop


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Redis]:
    """Connect to a Redis of this machine; the client tries nothing twice and gives nothing up by itself."""
    async with Redis(
        host=HOST,
        port=port,
        socket_timeout=None,
        socket_connect_timeout=10,
        retry=Retry(NoBackoff(), 0),
        encoding_errors="surrogateescape",
        client_name="test-node",
    ) as client:
        yield client
