"""The live table, and the summary at the end."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from peekaping_producer.demo.breakage import Event, Restart
from peekaping_producer.demo.history import History, Totals
from peekaping_producer.demo.judgement import lateness_ms
from peekaping_producer.demo.ledger import Finished, Outcome
from peekaping_producer.demo.sample import Sample
from peekaping_producer.model.cadence import cadence

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

ROWS = 15
_BARS = "▁▂▃▄▅▆▇█"
_STYLES: dict[Outcome, str] = {
    "up": "green",
    "down": "red",
    "pending": "yellow",
    "maintenance": "blue",
    "dropped": "magenta",
    "failed": "magenta",
}


class State(Struct, frozen=True):
    """What the table shows besides the history."""

    now_ms: int
    elapsed_s: float
    due_ms: Mapping[str, float]
    """The next run of the monitors shown."""
    totals: Totals
    pending: int
    active: int
    nodes: int
    events: Sequence[Event]
    restarts: Sequence[Restart]


def render(monitors: Sequence[Sample], history: History, state: State) -> "Group":
    """Draw the table with its totals below."""
    from rich.console import Group  # noqa: PLC0415 - an extra
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("monitor", "type", "last result"):
        table.add_column(heading, no_wrap=True)
    for heading in ("next run", "lateness"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=8)
    table.add_column("last runs", no_wrap=True, min_width=16, overflow="crop")
    for monitor in monitors[:ROWS]:
        table.add_row(*_row(monitor, history, state))
    lines = [Text(f"… and {len(monitors) - ROWS:,} more", style="dim")] if len(monitors) > ROWS else []
    lines += [Text(), Text(totals_line(state), style="bold")]
    lines += [Text(line, style="yellow") for line in event_lines(state.events, state.restarts, history)[-6:]]
    lines.append(Text(f"{state.elapsed_s:.0f} s; press Ctrl-C to stop", style="dim"))
    return Group(table, *lines)


def totals_line(state: State) -> str:
    """Return the totals in one line."""
    totals = state.totals
    skipped = f", {totals.skipped} skipped" if state.events else ""
    return (
        f"{totals.runs:,} checks, {totals.missed} missed, {totals.doubled} doubled{skipped}; "
        f"lateness p50 {totals.lateness_p50_ms} ms, p99 {totals.lateness_p99_ms} ms; "
        f"queue {state.pending} pending, {state.active} active; {state.nodes} node{'' if state.nodes == 1 else 's'}"
    )


def event_lines(events: Sequence[Event], restarts: Sequence[Restart], history: History) -> list[str]:
    """Return a line for each breakage and restart, with the number of monitors checked since."""
    lines = [(restart.at_s, restart.what) for restart in restarts]
    for event in events:
        back = history.came_back(event.monitor_ids, event.at_ms)
        lines.append((event.at_s, f"{event.breakage}: {back} of {len(event.monitor_ids)} monitors checked since"))
    return [f"{at_s:4.0f} s  {text}" for at_s, text in sorted(lines)]


def _row(monitor: Sample, history: History, state: State) -> "Sequence[str | Text]":
    from rich.text import Text  # noqa: PLC0415 - an extra

    results = history.results(monitor.id)
    last_ms, due_ms = history.last_run_ms(monitor.id), state.due_ms.get(monitor.id)
    grid = cadence(monitor.id, monitor.interval_s)
    return (
        monitor.name,
        monitor.type,
        Text(_last_result(results[-1]), style=_STYLES[results[-1].outcome]) if results else Text("…", style="dim"),
        "now" if due_ms is None else f"{max(0.0, (due_ms - state.now_ms) / 1000):.1f} s",
        "" if last_ms is None else f"{lateness_ms(grid, last_ms)} ms",
        _sparkline(results, monitor.timeout_s * 1000),
    )


def _last_result(result: Finished) -> str:
    ping = f" {result.ping_ms} ms" if result.outcome == "up" and result.ping_ms else ""
    return f"{result.outcome.upper()}{ping}  {result.text}"[:30]


def _sparkline(results: Sequence[Finished], most_ms: int) -> "Text":
    from rich.text import Text  # noqa: PLC0415 - an extra

    line = Text()
    for result in results:
        height = 7 if result.outcome in ("down", "failed") else min(6, round(6 * (result.ping_ms / most_ms) ** 0.5))
        line.append(_BARS[height], style=_STYLES[result.outcome])
    return line
