"""Checks around every test: it fails if it leaves a task, a process, a Redis connection or an unknown key behind.

What was there before the test counts as none of its business, so session-wide servers may stay.
"""

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from redis import Redis

from peekaping_producer.demo.redis_server import RedisServer
from support.forked import FORKED, server_pids

KNOWN_KEYS = frozenset(
    {
        "peekaping:sched:due",
        "peekaping:sched:lease",
        "peekaping:sched:claims",
        "asynq:queues",
    }
)
"""Every key that may be in Redis under exactly this name (docs/protocol.md, section 1, and redisdb/keys.py)."""
KNOWN_PREFIXES = ("peekaping:producer:", "asynq:{healthcheck}:", "asynq:servers", "asynq:workers")
"""And the beginnings of all others."""

SETTLE_WITHIN_S = 2.0
"""What is already on its way out (a closed socket, a signalled process) may take this long."""

_KNOWN = re.compile("|".join([*(rf"{re.escape(key)}\Z" for key in KNOWN_KEYS), *map(re.escape, KNOWN_PREFIXES)]))


def unknown_keys(keys: Iterable[bytes | str]) -> list[str]:
    """Return those of `keys` that no document names."""
    names = (key.decode(errors="replace") if isinstance(key, bytes) else key for key in keys)
    return sorted(name for name in names if not _KNOWN.match(name))


def left_tasks(before: AbstractSet[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    """Return the tasks of the running loop that are neither in `before` nor the caller's own."""
    return asyncio.all_tasks() - before - {asyncio.current_task()}


def child_processes() -> dict[int, str]:
    """Return the direct children of this process and those of the server that forks for it, by process id.

    Their own children are theirs to mind. The server starts with the first test that needs it, and stays.
    """
    children = {}
    serving = server_pids()
    direct = _children_of(psutil.Process())
    forked = [child for server in direct if server.pid in serving for child in _children_of(server)]
    for child in [*forked, *(child for child in direct if child.pid not in serving)]:
        try:
            children[child.pid] = f"{child.name()} (pid {child.pid}, {child.status()})"
        except psutil.NoSuchProcess:
            continue
    return children


def _children_of(process: psutil.Process) -> list[psutil.Process]:
    """Return the direct children, as Linux lists them; psutil reads every process there is to find them."""
    of_threads = [*Path(f"/proc/{process.pid}/task").glob("*/children")]
    if not of_threads:
        return process.children()
    children = []
    for of_thread in of_threads:
        with contextlib.suppress(OSError):  # the thread has ended
            for pid in of_thread.read_text().split():
                with contextlib.suppress(psutil.NoSuchProcess):
                    children.append(psutil.Process(int(pid)))
    return children


def connections(observer: Redis) -> dict[int, str]:
    """Return the server's connections by their id, all but the observer's."""
    own = observer.client_id()
    clients = observer.client_list()
    return {
        int(client["id"]): f"{client['name'] or 'unnamed'} from {client['addr']}, last did {client['cmd']}"
        for client in clients
        if int(client["id"]) != own
    }


def left_over(now: Callable[[], dict[int, str]], before: AbstractSet[int]) -> list[str]:
    """Return what `now` finds beyond `before`, once it has had its time to go."""
    give_up = time.monotonic() + SETTLE_WITHIN_S
    while left := [text for key, text in now().items() if key not in before]:
        if time.monotonic() > give_up:
            return left
        time.sleep(0.002)
    return []


class _Children:
    """This process's children, looked up again only after it may have started one: that takes milliseconds."""

    _STARTS = frozenset(
        {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", FORKED}
    )
    """The audit events of every way to start a process."""

    def __init__(self) -> None:
        self._started = True
        self._last: dict[int, str] = {}
        sys.addaudithook(self._notice)

    def known(self) -> dict[int, str]:
        """Return the children, some of which may have ended since."""
        if self._started:
            self._started = False
            self._last = child_processes()
        return self._last

    def _notice(self, event: str, _arguments: object) -> None:
        if event in self._STARTS:
            self._started = True


_children = _Children()


@pytest.fixture(autouse=True)
def no_leaked_processes() -> Iterator[None]:
    """Fail a test that leaves a child process, running or unwaited-for."""
    before = _children.known()
    yield
    if _children.known() is before:
        return  # it started none
    if left := left_over(child_processes, before.keys()):
        pytest.fail(f"the test left child processes behind: {'; '.join(left)}")


@pytest.fixture(autouse=True)
def no_leaked_tasks(request: pytest.FixtureRequest) -> None:
    """Fail an async test that leaves a task behind; other tests need no loop for it."""
    if pytest_asyncio.is_async_test(request.node):
        request.getfixturevalue("_no_leaked_tasks_in_loop")


@pytest.fixture
async def _no_leaked_tasks_in_loop() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    # One turn of the loop: what has been cancelled in the test's last line ends in it.
    await asyncio.sleep(0)
    if left := left_tasks(before):
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=SETTLE_WITHIN_S)
        pytest.fail(f"the test left tasks behind: {'; '.join(sorted(map(repr, left)))}")


@pytest.fixture(scope="session")
def _observer(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis(unix_socket_path=str(redis_server.unix_socket), client_name="leak-check") as client:
        client.ping()
        yield client


@pytest.fixture(autouse=True)
def no_leaks_in_redis(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that uses the shared Redis and leaves a connection or a key that no document names."""
    if "redis_server" not in request.fixturenames:
        yield
        return
    observer: Redis = request.getfixturevalue("_observer")
    before = connections(observer)
    yield
    strangers = unknown_keys(observer.keys("*"))
    observer.flushall()
    if strangers:
        pytest.fail(f"the test left Redis keys that no document names: {', '.join(strangers[:20])}")
    if left := left_over(lambda: connections(observer), before.keys()):
        pytest.fail(f"the test left Redis connections behind: {'; '.join(left)}")
