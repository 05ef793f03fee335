"""The same work by other schedulers and by ours: entries that are all due at the same instant, until all are queued.

Each scheduler runs as a process of its own, as its users start it, and has an empty Redis to itself.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct
from redis import Redis

from benchmarks.database import Database
from benchmarks.figures import Case, Role, cost, rate
from benchmarks.herd import empty_queue, make_due
from benchmarks.part import HERD_INTERVAL_S, Bench, Part
from benchmarks.peers.environment import NotInstalledError, asynq_scheduler, python_peers
from benchmarks.producer import CpuTimes, running_producer, until_swept, wait_until
from peekaping_producer.asynq import keys as asynq
from peekaping_producer.demo.redis_server import HOST, RedisServer, killed_with_parent

APPS = Path(__file__).parent / "apps"
BYTES = 600
"""Of each task."""
_BEFORE_S = 0.3
"""The processor time is read this long before the entries are due."""
_POLL_S = 0.002
_WITHIN_S = 300.0
_STOP_WITHIN_S = 15.0
_TRIES = 3
_SLOWEST_PER_S = 200
"""The entries of a scheduler that goes on running are due so rarely that it has time for all of them."""


class Peer(Struct, frozen=True):
    """A scheduler, and how it is run. In its command, `{port}`, `{entries}`, `{bytes}` and `{every}` are replaced."""

    name: str
    queue: str
    """The list that its tasks are put into."""
    command: tuple[str, ...]
    setup: str = ""
    """The module that adds the entries before it starts, if it does not do so itself."""
    ready: str = ""
    """The pattern of a key that exists once it runs. Without one, its entries are due again and again."""


PYTHON_PEERS = (
    Peer(
        "celery-redbeat",
        "celery",
        ("celery", "-A", "redbeat_app", "beat", "-S", "redbeat.RedBeatScheduler"),
        "redbeat_app",
        "redbeat::lock",
    ),
    Peer(
        "rq-scheduler",
        "rq:queue:default",
        ("rqscheduler", "--interval", "1", "--url", f"redis://{HOST}:{{port}}/0"),
        "rq_jobs",
        "rq:scheduler_instance:*",
    ),
    Peer("APScheduler, Redis job store", "tasks", ("python", str(APPS / "apscheduler_app.py")), ready="ready"),
    Peer("taskiq, Redis list broker", "taskiq", ("taskiq", "scheduler", "taskiq_app:scheduler"), "taskiq_app"),
)
ASYNQ = Peer(
    "asynq PeriodicTaskManager",
    "asynq:{default}:pending",
    ("asynqscheduler", *f"-redis {HOST}:{{port}} -entries {{entries}} -bytes {{bytes}} -every {{every}}s".split()),
)


class Round(Struct, frozen=True):
    """All entries due once."""

    entries_per_s: float
    """From the instant at which they were due until the last one was queued."""
    first_ms: float
    """From that instant until the first one was."""
    cpu_us: dict[str, float]
    """For each entry, by process."""


class _Watched(Struct, frozen=True):
    """What was seen of all entries becoming due once: instants in Unix seconds, and processor times."""

    entries: int
    first_s: float
    last_s: float
    cpu_s: dict[str, float]

    def due_at(self, due_s: float) -> Round:
        """Return the round, if the entries were due at this instant."""
        return Round(
            self.entries / (self.last_s - due_s),
            (self.first_s - due_s) * 1000,
            {name: used_s * 1e6 / self.entries for name, used_s in self.cpu_s.items()},
        )


class _Place(Struct, frozen=True):
    """What a round needs: an empty Redis, and where the programs are."""

    redis: Redis
    server: RedisServer
    programs: Path
    entries: int
    database_pid: int | None = None


def measure(bench: Bench) -> Iterator[Case]:
    """Measure ours, then each other scheduler; one that cannot be had here is left out, and says why."""
    entries, rounds = bench.size.entries, bench.size.rounds
    yield _case("this producer, Postgres", entries, Role.OURS, _ours(bench, entries, rounds))
    for peers, programs in ((PYTHON_PEERS, python_peers), ((ASYNQ,), asynq_scheduler)):
        yield from _cases(peers, programs, entries, rounds)


PART = Part("peers", "other schedulers doing the same work: entries a second, and what each costs", 150, measure)


def _cases(peers: Sequence[Peer], programs: Callable[[], Path], entries: int, rounds: int) -> Iterator[Case]:
    try:
        folder = programs()
    except NotInstalledError as error:
        yield from (Case(_name(peer.name, entries), {}, Role.PEER, f"not measured: {error}") for peer in peers)
        return
    for peer in peers:
        run = _rounds_of_starts if peer.ready else _rounds_of_one_start
        try:
            yield _case(peer.name, entries, Role.PEER, run(peer, folder, entries, rounds))
        except RuntimeError as error:
            yield Case(_name(peer.name, entries), {}, Role.PEER, f"not measured: {error}")


def _name(name: str, entries: int) -> str:
    return f"{name}, {entries:,} entries"


def _case(name: str, entries: int, role: Role, rounds: Sequence[Round]) -> Case:
    figures = {
        "entries_queued": rate([one.entries_per_s for one in rounds]),
        "first_after": cost([one.first_ms for one in rounds], "ms"),
    }
    for process in rounds[0].cpu_us:
        figures[f"{process}_cpu"] = cost([one.cpu_us[process] for one in rounds], "µs an entry")
    return Case(_name(name, entries), figures, role)


def _ours(bench: Bench, entries: int, rounds: int) -> list[Round]:
    database = bench.database("postgres", entries, HERD_INTERVAL_S)
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        running_producer(database, server.port) as producer,
    ):
        place = _Place(redis, server, Path(), entries, database.pid)
        until_swept(redis, entries)
        # The first one opens connections and compiles statements, and does not count.
        return [_our_round(place, database, producer.pid) for _ in range(rounds + 1)][1:]


def _our_round(place: _Place, database: Database, pid: int) -> Round:
    empty_queue(place.redis, database.ids)
    due_ms = int((time.time() + 1.5) * 1000)
    make_due(place.redis, database.ids, due_ms)
    due_s = due_ms / 1000
    return _watched(place, asynq.PENDING, pid, due_s - _BEFORE_S).due_at(due_s)


def _rounds_of_starts(peer: Peer, programs: Path, entries: int, rounds: int) -> list[Round]:
    """Start it again for each round, since its entries would not be due at the same instant a second time."""
    return [_started(peer, programs, entries) for _ in range(rounds)]


def _started(peer: Peer, programs: Path, entries: int) -> Round:
    """Start it once. If it is not ready when its entries are due, that would be measured, too: it gets more time."""
    lead_s = 5 + entries / 1_000
    for _ in range(_TRIES):
        watched = _started_in_time(peer, programs, entries, float(int(time.time() + lead_s)))
        if watched:
            return watched
        lead_s *= 2
    raise RuntimeError(f"{peer.name} takes more than {lead_s / 2:.0f} s to start")


def _started_in_time(peer: Peer, programs: Path, entries: int, due_s: float) -> Round | None:
    with RedisServer(tcp=True) as server, Redis(host=HOST, port=server.port) as redis:
        place = _Place(redis, server, programs, entries)
        with _running(peer, place, BENCH_DUE=str(due_s)) as process:
            _wait(process, lambda: bool(redis.keys(peer.ready)), f"{peer.name} runs")
            if time.time() > due_s - 2 * _BEFORE_S:
                return None
            return _watched(place, peer.queue, process.pid, due_s - _BEFORE_S).due_at(due_s)


def _rounds_of_one_start(peer: Peer, programs: Path, entries: int, rounds: int) -> list[Round]:
    """Let it run while its entries become due again and again, in whole seconds. The first time does not count."""
    every_s = max(5, entries // _SLOWEST_PER_S)
    with RedisServer(tcp=True) as server, Redis(host=HOST, port=server.port) as redis:
        place = _Place(redis, server, programs, entries)
        with _running(peer, place, every_s) as process:
            _wait(process, lambda: redis.llen(peer.queue) > 0, f"{peer.name} queues a task")
            began_s = int(time.time())
            _wait(process, lambda: redis.llen(peer.queue) >= entries, f"{peer.name} has queued all")
            # The first task may have been more than a second late, so each time is watched from a little earlier on.
            watched = [
                _watched(place, peer.queue, process.pid, began_s + number * every_s - 1 - _BEFORE_S)
                for number in range(1, rounds + 1)
            ]
    due_s = min([began_s, *(int(one.first_s) - number * every_s for number, one in enumerate(watched, 1))])
    return [one.due_at(due_s + number * every_s) for number, one in enumerate(watched, 1)]


def _wait(process: subprocess.Popen[bytes], condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition. Raises TimeoutError if it does not come true in time, or the process has ended."""
    wait_until(lambda: process.poll() is not None or condition(), what, _POLL_S, _WITHIN_S)
    if process.returncode is not None:
        raise TimeoutError(f"ended with code {process.returncode} before {what}")


def _watched(place: _Place, queue: str, pid: int, from_s: float) -> _Watched:
    """Watch the queue from some time before the entries are due until it has them all."""
    redis, entries = place.redis, place.entries
    had = redis.llen(queue)
    time.sleep(max(0.0, from_s - time.time()))
    pids = {"scheduler": pid, "redis": place.server.pid}
    if place.database_pid:
        pids["database"] = place.database_pid
    cpu = CpuTimes(pids)
    wait_until(lambda: redis.llen(queue) > had, "the first task is queued", _POLL_S, _WITHIN_S)
    first_s = time.time()
    wait_until(lambda: redis.llen(queue) >= had + entries, "the last task is queued", _POLL_S, _WITHIN_S)
    last_s = time.time()
    return _Watched(entries, first_s, last_s, cpu.used_s())


@contextmanager
def _running(peer: Peer, place: _Place, every_s: int = 0, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a scheduler for the duration of the block.

    Raises RuntimeError, with the end of the scheduler's log, if the block raises TimeoutError or its setup fails.
    """
    port, programs = place.server.port, place.programs
    values = {"port": port, "entries": place.entries, "bytes": BYTES, "every": every_s}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "PYTHONPATH": str(APPS),
            "BENCH_REDIS": f"redis://{HOST}:{port}/0",
            "BENCH_HOST": HOST,
            "BENCH_PORT": str(port),
            "BENCH_ENTRIES": str(place.entries),
            "BENCH_BYTES": str(BYTES),
            "BENCH_EVERY_S": str(every_s),
            **variables,
        }
        log = Path(folder) / "scheduler.log"
        command = [str(programs / peer.command[0]), *(part.format(**values) for part in peer.command[1:])]
        try:
            with log.open("wb") as out:
                if peer.setup:
                    setup = [str(programs / "python"), "-m", peer.setup]
                    subprocess.run(setup, env=environment, cwd=folder, stdout=out, stderr=out, check=True)
                process = subprocess.Popen(
                    killed_with_parent(command), env=environment, cwd=folder, stdout=out, stderr=out
                )
            try:
                yield process
            finally:
                _stop(process)
        except (TimeoutError, subprocess.CalledProcessError) as error:
            last_line = log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise RuntimeError(f"{error}; {peer.name} said last: {last_line}") from error


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
