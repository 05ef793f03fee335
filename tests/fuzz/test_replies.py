"""What answers in Redis' place sends any bytes, or any error: each call ends in time, with an error of our own."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fuzz.garbage import examples
from peekaping_producer.asynq.queue import queue_state, task_state
from peekaping_producer.errors import Unavailable
from peekaping_producer.fleet.invalid_monitors import InvalidMonitors
from peekaping_producer.fleet.registry import NodeInfo, Registry
from peekaping_producer.leader.term import Term, Terms
from peekaping_producer.model.cadence import Cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.schedule.orders import Claim, Claimed, Entry, Release, drop
from peekaping_producer.schedule.redis_clock import Step
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.schedule.view import ScheduleView
from peekaping_producer.timing import Timing
from support.tcp_forwarding import serving

ID = MonitorId("11111111-1111-4111-8111-111111111111")
TIMING = Timing(redis_timeout_s=5.0, retry_first_s=0)
CLAIM = Claim(0, "1.5", None, go_seen=False, claimed=(Claimed(ID, 1.0),), answered_at_s=-1e9)
WITHIN_S = 20.0
"""Several times the time limit of a call, on a slow machine."""

Call = Callable[[Redis], Awaitable[object]]
CALLS: dict[str, Call] = {
    "claim": lambda redis: Schedule(redis, TIMING).claim(1),
    "peek": lambda redis: Schedule(redis, TIMING).peek("node", None, 1),
    "claim these": lambda redis: Schedule(redis, TIMING).claim_these(CLAIM.claimed),
    "settle": lambda redis: Schedule(redis, TIMING).settle(CLAIM, [Release(ID, 1)]),
    "reclaim": lambda redis: Schedule(redis, TIMING).reclaim(),
    "repair": lambda redis: Schedule(redis, TIMING).repair(),
    "note Go node": lambda redis: Schedule(redis, TIMING).note_go_node(),
    "note step": lambda redis: Schedule(redis, TIMING).note_step(Step(1, 1)),
    "run now": lambda redis: Schedule(redis, TIMING).run_now([ID]),
    "schedule": lambda redis: Schedule(redis, TIMING).schedule("node", [Entry(ID, Cadence(20_000, 1))]),
    "remove": lambda redis: Schedule(redis, TIMING).remove("node", [drop(ID)]),
    "relist": lambda redis: Schedule(redis, TIMING).relist("node", [ID]),
    "members": lambda redis: Schedule(redis, TIMING).members(None, 10),
    "step noted": lambda redis: Schedule(redis, TIMING).step_noted_ms(),
    "end step": lambda redis: Schedule(redis, TIMING).end_step("node", 1),
    "take": lambda redis: Terms(redis, "node", TIMING).take(),
    "extend": lambda redis: Terms(redis, "node", TIMING).extend(Term("node", 1e12)),
    "overview": lambda redis: ScheduleView(redis, 5).overview(),
    "place of": lambda redis: ScheduleView(redis, 5).place_of(ID),
    "next runs": lambda redis: ScheduleView(redis, 5).next_runs(3),
    "late": lambda redis: ScheduleView(redis, 5).late(1, 1, 1),
    "register": lambda redis: Registry(redis, TIMING).register(NodeInfo("node")),
    "seen": lambda redis: Registry(redis, TIMING).seen(),
    "unseen": lambda redis: Registry(redis, TIMING).unseen_s(),
    "invalid": lambda redis: InvalidMonitors(redis, TIMING).all(),
    "queue": lambda redis: queue_state(redis, 5),
    "task": lambda redis: task_state(redis, ID, 5),
}


class Impostor:
    """Answers each request with the same bytes, and hangs up."""

    def __init__(self) -> None:
        self.port = 0
        self.reply = b""
        self._runner = asyncio.Runner()
        self._serving = serving(self._serve)

    def __enter__(self) -> Self:
        self.port = self._runner.run(self._serving.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._serving.__aexit__(None, None, None))
        self._runner.close()

    def call(self, call: Call, reply: bytes) -> object:
        """Make a call that is answered so."""
        self.reply = reply
        return self._runner.run(self._call(call))

    async def _call(self, call: Call) -> object:
        async with (
            asyncio.timeout(WITHIN_S),
            Redis(
                port=self.port, socket_timeout=None, retry=Retry(NoBackoff(), 0), driver_info=None, protocol=2
            ) as client,
        ):
            return await call(client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1 << 16):
            writer.write(self.reply)


@pytest.fixture(scope="module")
def impostor() -> Iterator[Impostor]:
    with Impostor() as impostor:
        yield impostor


no_resp = st.binary(max_size=40).filter(lambda some: some[:1] not in (b"+", b":", b"$", b"*", b"_", b"-"))
cut_off = st.sampled_from(
    [b"-MOVED 1 h:1\r\n", b"*3\r\n:1\r\n", b"$100\r\nabc", b"$-5\r\n", b"*-7\r\n", b":12", b"+", b""]
)
codes = st.sampled_from(["", "ERR ", "NOSCRIPT ", "READONLY ", "WRONGTYPE ", "NOPERM ", "OOM ", "EXECABORT "])
errors = st.builds(
    lambda code, text: f"-{code}{text}\r\n".encode(errors="replace"),
    codes,
    st.text(st.characters(exclude_characters="\r\n"), max_size=30),
)


def check_reason(error: Unavailable) -> None:
    assert error.system == "redis"
    assert error.reason
    assert "\n" not in error.reason


@given(name=st.sampled_from(sorted(CALLS)), reply=no_resp | cut_off | errors)
@examples(60)
def test_a_call_that_gets_garbage_ends_with_an_error_of_our_own(impostor: Impostor, name: str, reply: bytes) -> None:
    try:
        impostor.call(CALLS[name], reply)
    except Unavailable as error:
        check_reason(error)
