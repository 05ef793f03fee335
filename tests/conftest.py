"""What every test has: real servers to ask for, and checks that it leaves nothing behind."""

import gc
import os
import shutil
import signal
import tempfile
from functools import partial
from itertools import chain

import hypothesis
import pytest

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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long tests, each beside a short one, so that every process takes one and none is the last."""
    long = [item for item in items if item.get_closest_marker("long")]
    short = [item for item in items if not item.get_closest_marker("long")]
    items[:] = [*chain.from_iterable(zip(long, short, strict=False)), *long[len(short) :], *short[len(long) :]]


def pytest_collection_finish() -> None:
    """Spare every later collection of garbage the modules and tests that stay until the end."""
    gc.collect()
    gc.freeze()
