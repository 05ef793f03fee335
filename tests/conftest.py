"""What every test has: real servers to ask for, and checks that it leaves nothing behind."""

import fcntl
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Generator
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from support.server_process import PREPARED_IN, data_root

pytest_plugins = [
    "support.redis_fixtures",
    "support.leaks",
    "support.database_fixtures",
    "support.asynq_peer",
]

# How fast a busy machine makes up input says nothing about a test.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

_COMPILED = Path(__file__).parent / "unit" / "__pycache__"
"""Exists once some process has begun to compile the tests."""
_WHOLE = {
    "test_log_events.py",
    "test_package.py",
    "test_page_in_browser.py",
    "test_redis_connections.py",
    "test_replies.py",
    "test_scores.py",
}
"""Files whose tests share what takes long to make: one process runs each of them."""
_LONG_UNTIL = 0.5
"""The share of the run in which all long tests begin."""

# A shell starts its background jobs so, and nohup what it runs; the processes that tests start would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder in which the processes of this run share what their servers begin with."""
    if PREPARED_IN not in os.environ:
        os.environ[PREPARED_IN] = tempfile.mkdtemp(prefix="prepared-", dir=data_root())
        config.add_cleanup(partial(shutil.rmtree, os.environ[PREPARED_IN], ignore_errors=True))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let one process compile the tests of a fresh checkout; side by side, each would compile all of them."""
    with (Path(os.environ[PREPARED_IN]) / "compiling").open("w") as lock:
        if not (sys.dont_write_bytecode or _COMPILED.exists()):
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _COMPILED.exists():
                fcntl.flock(lock, fcntl.LOCK_UN)
        return (yield)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the tests of each file over the whole run, and the long ones over its first half.

    Side by side, those that wait would all wait at once. A long one at the end would run alone.
    """
    files: defaultdict[Path, list[pytest.Item]] = defaultdict(list)
    for item in items:
        files[item.path].append(item)
    kinds: defaultdict[Path | None, list[list[pytest.Item]]] = defaultdict(list)
    for path, tests in files.items():
        if path.name in _WHOLE:
            kinds[None].append(tests)
        else:
            for test in tests:
                kinds[None if test.get_closest_marker("long") else path].append([test])
    spread = [
        ((number + first / len(kinds)) / len(parts) * (1 if kind else _LONG_UNTIL), tests)
        for first, (kind, parts) in enumerate(kinds.items())
        for number, tests in enumerate(parts)
    ]
    items[:] = chain.from_iterable(tests for _, tests in sorted(spread, key=itemgetter(0)))


class _Scheduler(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a process one test at a time, or a whole file. pytest 9.2 ignores the groups of pytest-xdist 3.8."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if Path(file).name in _WHOLE else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Scheduler:
    """Distribute the tests to processes."""
    return _Scheduler(config, log)


def pytest_collection_finish() -> None:
    """Spare every later collection of garbage the modules and tests that stay until the end."""
    gc.collect()
    gc.freeze()
