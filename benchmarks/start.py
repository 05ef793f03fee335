"""The start: from the process's first instruction to its first claim, and how much of it importing takes."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator

from redis import Redis

from benchmarks.database import Database
from benchmarks.figures import Case, cost
from benchmarks.herd import make_due
from benchmarks.part import FAR_INTERVAL_S, IDLE_MONITORS, Bench, Part
from benchmarks.producer import running_producer, wait_until
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.redisdb.keys import CLAIMS

SLOWEST_SHOWN = 5
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


def measure(bench: Bench) -> Iterator[Case]:
    """Start a producer that finds a monitor due, several times."""
    database = bench.database("postgres", IDLE_MONITORS, FAR_INTERVAL_S)
    first_claim_ms = [_first_claim_ms(database) for _ in range(bench.size.starts)]
    yield Case("postgres", {"first_claim_after": cost(first_claim_ms, "ms", "≤ 600")})
    import_ms, slowest = _imports()
    figures = {"all": cost(import_ms, "ms")} | {name: cost(ms, "ms") for name, ms in slowest.items()}
    yield Case("imports", figures, note="of `run`, by python -X importtime, which slows them by about a fifth")


PART = Part("start", "from the start of the process to its first claim; imports", 12, measure)


def _first_claim_ms(database: Database) -> float:
    with RedisServer(tcp=True) as server, Redis(host=HOST, port=server.port) as redis:
        make_due(redis, database.ids[:1])
        started_s = time.monotonic()
        with running_producer(database, server.port):
            wait_until(lambda: bool(redis.exists(CLAIMS)), "the first claim", every_s=0.002)
            return (time.monotonic() - started_s) * 1000


def _imports() -> tuple[float, dict[str, float]]:
    command = [sys.executable, "-X", "importtime", "-c", "import peekaping_producer.cli, peekaping_producer.app"]
    done = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True)
    lines = [match.groups() for match in map(_LINE.match, done.stderr.splitlines()) if match]
    total_us = sum(int(own_us) for own_us, _ in lines)
    packages: dict[str, int] = {}
    for own_us, name in lines:
        package = name.partition(".")[0]
        packages[package] = packages.get(package, 0) + int(own_us)
    slowest = sorted(packages.items(), key=lambda item: -item[1])[:SLOWEST_SHOWN]
    return total_us / 1000, {name: us / 1000 for name, us in slowest}
