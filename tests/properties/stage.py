"""What all examples share: one Redis whose clock is stopped until a step of the test moves it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript

from peekaping_producer.leader import sync, term
from peekaping_producer.schedule import store
from properties.checked_schedule import HostClock
from properties.model import SEARCHES, SHORT_LIST
from support.redis_clock import RedisClock, redis_with_clock

START_MS = 1_900_000_000_000
_SHOWN_WITHIN_S = 30.0
_POLL_S = 0.0003

Result = TypeVar("Result")


class Stage:
    """The Redis, its clock and this host's."""

    def __init__(self, redis: Redis, client: AsyncRedis, clock: RedisClock, host: HostClock) -> None:
        self.redis = redis
        """For what others do."""
        self.client = client
        """For what our nodes do."""
        self.host = host
        self.reached: Counter[str] = Counter()
        """How often each step, outcome and placement was reached (reached.py)."""
        self.now_ms = START_MS
        self._clock = clock
        self._runner = asyncio.Runner()

    def reset(self) -> None:
        """Begin an example."""
        self.redis.flushall()
        self.host.now_ms = 1_000_000
        self._move_to(START_MS)

    def pass_time(self, ms: int) -> None:
        """Let both clocks go on."""
        self.host.now_ms += ms
        self._move_to(self.now_ms + ms)

    def step_clock(self, by_ms: int) -> None:
        """Let Redis' clock alone jump."""
        self._move_to(self.now_ms + by_ms)

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run something of ours to its end."""
        return self._runner.run(coroutine)

    def close(self) -> None:
        """Disconnect."""
        self.run(self.client.aclose())
        self._runner.close()
        self.redis.close()

    def _move_to(self, unix_ms: int) -> None:
        self.now_ms = unix_ms
        self._clock.stand_at_ms(unix_ms)
        give_up_s = time.monotonic() + _SHOWN_WITHIN_S
        while self._shown_ms() != unix_ms:
            if time.monotonic() > give_up_s:  # no AssertionError, which would pass for a broken invariant
                raise TimeoutError("Redis does not show the time that was set")
            time.sleep(_POLL_S)

    def _shown_ms(self) -> int:
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Start a Redis for the duration of the block; meanwhile our code reads the stage's clock as this host's."""
    host = HostClock()
    with ExitStack() as stack:
        server, clock = stack.enter_context(redis_with_clock(folder))
        for module in (store, term, sync):
            stack.enter_context(patch.object(module, "time", host))
        stack.enter_context(patch.object(store, "monotonic_s", host.monotonic))
        stack.enter_context(patch.object(store, "SHORT_LIST", SHORT_LIST))
        stack.enter_context(replacing("long_searches_left = 5", f"long_searches_left = {SEARCHES}"))
        path = str(server.unix_socket)
        client = AsyncRedis(unix_socket_path=path, retry=Retry(NoBackoff(), 0), socket_timeout=None)
        stage = Stage(Redis(unix_socket_path=path), client, clock, host)
        stack.callback(stage.close)
        yield stage


@contextmanager
def replacing(there: str, instead: str, *, script: str = "") -> Iterator[None]:
    """Let new nodes load their scripts with another text in one place; only in `script`, if it is given."""
    load_script: Callable[..., AsyncScript] = vars(store)["load_script"]  # may be replaced already
    found = 0

    def load(redis: AsyncRedis, package: str, *names: str) -> AsyncScript:
        nonlocal found
        loaded = load_script(redis, package, *names)
        text = str(loaded.script)
        if there not in text or script not in ("", names[-1]):
            return loaded
        found += 1
        return redis.register_script(text.replace(there, instead))

    with patch.object(store, "load_script", load):
        yield
    assert found, f"no script has the text {there!r}"
