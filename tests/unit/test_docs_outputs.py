"""The outputs that docs/*.md show are what the program prints, here for fixed values."""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from peekaping_producer.asynq.queue import QueueState
from peekaping_producer.catalog.reading import Counts, Facts, Reading
from peekaping_producer.clock import monotonic_s
from peekaping_producer.commands.check import Report
from peekaping_producer.commands.plan import plan
from peekaping_producer.commands.probe import run_probe
from peekaping_producer.commands.status_check import _summary, state_of
from peekaping_producer.commands.status_text import status_text
from peekaping_producer.config.loading import load_settings
from peekaping_producer.config.origins import Origin, ShownSetting
from peekaping_producer.config.settings import ScheduleMode, Settings
from peekaping_producer.errors import ConfigurationError
from peekaping_producer.fleet.registry import NodeInfo
from peekaping_producer.model.cadence import Spacing, cadence
from peekaping_producer.model.monitor import Monitor, MonitorId, Snapshot
from peekaping_producer.observe.history import Recent
from peekaping_producer.preflight.database import count_findings, database_findings
from peekaping_producer.preflight.deployment import Producers, producer_findings, queue_findings
from peekaping_producer.preflight.finding import worst
from peekaping_producer.preflight.redis_server import RedisServer, redis_findings
from peekaping_producer.redisdb.memory import Memory
from peekaping_producer.report.explain import _text
from peekaping_producer.report.findings import Findings
from peekaping_producer.report.pausing import Paused, Resumed
from peekaping_producer.report.resolve import Target
from peekaping_producer.report.run_now import Result, RunNow
from peekaping_producer.report.status import _overdue_trouble
from peekaping_producer.report.status_values import Invalid, NodeStatus, Overdue, OverdueMonitor, PauseStatus, Status
from peekaping_producer.schedule.view import Place
from support.docs import blocks

SHOWN = {block.text.splitlines()[0]: block for block in blocks() if block.language == "console"}
OUTPUTS: dict[str, Callable[..., str]] = {}
NODE = NodeInfo(id="host-1-7-n0a1b2c3d", version="0.1.0")
SHOP = MonitorId("11111111-1111-4111-8111-111111111111")
QUEUE = QueueState(
    paused=False, workers=2, pending=4, active=0, scheduled=0, retry=0, archived=0, completed=0, oldest=None
)
STATUS = Status(
    at="2026-11-24T21:30:00.123Z",
    running=True,
    trouble=[],
    pause=None,
    overdue=Overdue(0, 0, []),
    nodes=[],
    inactive_nodes=[],
    leader=NODE.id,
    leader_is_go=False,
    spacing="spread",
    scheduled=299,
    claimed=0,
    invalid=Invalid(0, []),
    queue=QUEUE,
    memory=None,
    next_runs=[],
    names_problem=None,
)


def shown(first_line: str) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Mark a function that returns what is printed where the docs show a block with this first line."""

    def register(printed: Callable[..., str]) -> Callable[..., str]:
        OUTPUTS[first_line] = printed
        return printed

    return register


@shown("$ peekaping-producer check")
def _check() -> str:
    memory = Memory(4_000_000, 0, "allkeys-lru")
    redis = RedisServer("Valkey", "9.1.2", "master", 1, memory, 300, 4, True, "", 0.2, 0.001)
    findings = [
        *redis_findings(redis),
        *database_findings(Facts("PostgreSQL", "18.6", ("monitors",), tls=False)),
        *count_findings(Counts(302, 300, more=False)),
        *producer_findings(Producers([NODE], NODE.id, go_seen=False), ScheduleMode.AUTO),
        *queue_findings(replace(QUEUE, workers=0)),
    ]
    settings = [
        ShownSetting("DB_TYPE", "postgres", Origin.ENVIRONMENT),
        ShownSetting("DB_PASS", "***", Origin.ENV_FILE),
        ShownSetting("REDIS_PORT", 6379, Origin.DEFAULT),
    ]
    return "\n".join(Report("0.1.0", worst(findings), settings, findings).text())


@shown("no producer is running: no monitor is checked")
def _status() -> str:
    names = ("Shop", "Blog", "Mail", "DNS", "VPN")
    overdue = Overdue(1202, 7_200_000, [OverdueMonitor(SHOP, name, 7_200_000) for name in names])
    trouble = ["no producer is running: no monitor is checked", *_overdue_trouble(overdue)]
    return status_text(replace(STATUS, running=False, leader=None, overdue=overdue, trouble=trouble))


@shown("$ peekaping-producer status --check")
def _status_check() -> str:
    nodes = [
        NodeStatus(name, "", "", "", 1, False, False, 10, 0, None, None, None, 0, 0, None, None, 0, Recent())
        for name in ("a", "b")
    ]
    trouble = ["1 monitor is skipped as invalid and not checked"]
    status = replace(STATUS, trouble=trouble, invalid=Invalid(1, []), nodes=nodes)
    return f"PEEKAPING {state_of(status).name}: {_summary(status)}"


@shown("$ peekaping-producer explain shop")
def _explain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    now_ms = int(datetime(2026, 11, 24, 21, 30, 0, 200_000, tzinfo=UTC).timestamp() * 1000)
    monitor = Monitor(SHOP, "Shop", "http", 60, 16, 2, 20, 0, active=True, config="{}", proxy_id=None)
    due_ms = cadence(SHOP, 60, Spacing.SPREAD).slot_from(now_ms)
    findings = Findings(
        target=Target("shop", SHOP, named=True),
        reading=Reading({SHOP: Snapshot(monitor, None, (), None)}, {}),
        place=Place(now_ms, due_ms, None, NODE.id, go_seen=False),
        task=None,
        queue=QUEUE,
        running=True,
    )
    return "\n".join(_text(findings, _loaded(monkeypatch, tmp_path, DB_TYPE="sqlite", DB_NAME="/data/peekaping.db")))


@shown("$ peekaping-producer run-now shop 22222222-2222-4222-8222-222222222222")
def _run_now() -> str:
    blog = "22222222-2222-4222-8222-222222222222"
    results = [
        Result("shop", SHOP, due=True, result="due now", matches=[]),
        Result(blog, blog, due=False, result="not active, activate it first", matches=[]),
    ]
    return "\n".join(RunNow(running=True, pause=None, monitors=results).text())


@shown("$ peekaping-producer pause --for 30m --reason 'the network is rebuilt'")
def _pause() -> str:
    at, until = "2026-11-24T21:30:00.123Z", "2026-11-24T22:00:00.123Z"
    pause = PauseStatus(at, until, 1800.0, "the network is rebuilt", "anna@host-1")
    return "\n".join([*Paused(pause, None, go_producer=False).text(), *Resumed(pause).text()])


@shown("$ peekaping-producer probe")
def _probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    file = tmp_path / "alive"
    file.write_text(f"{monotonic_s() - 34:020.3f}\n")
    monkeypatch.setenv("PRODUCER_ALIVE_FILE", str(file))
    assert run_probe() == 1
    return capsys.readouterr().out


@shown("$ peekaping-producer plan --monitors 100000 --interval 60")
def _plan() -> str:
    """With fewer monitors, which takes less time: the figures depend on costs, which are measured again."""
    return "\n".join(plan(60, 60, 1, 600, None, None).text())


@shown("$ peekaping-producer run")
def _errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        _loaded(monkeypatch, tmp_path, DB_TYPE="sqlite", REDIS_PORT="abc")
    return "\n".join(f"peekaping-producer: {problem}" for problem in caught.value.problems)


def _loaded(monkeypatch: pytest.MonkeyPatch, folder: Path, **variables: str) -> Settings:
    for name in [name for name in os.environ if name.startswith(("DB_", "REDIS_", "PRODUCER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def _figures(text: str) -> str:
    return re.sub(r"\d[\d,.-]*\d|\d", "9", text).replace("9 ms", "9 s")


@pytest.mark.parametrize("first_line", SHOWN)
def test_an_output_in_the_docs_is_what_is_printed(
    first_line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = OUTPUTS[first_line]
    fixtures = {"monkeypatch": monkeypatch, "tmp_path": tmp_path, "capsys": capsys}
    real = output(**{name: fixtures[name] for name in output.__annotations__ if name in fixtures})
    lines = [line for line in SHOWN[first_line].text.splitlines() if not line.startswith("$ ")]
    if output is _plan:
        lines, real = [_figures(line) for line in lines], _figures(real)
    # A line of `…` means that lines are left out.
    pattern = "".join(r"(.*\n)*?" if line == "…" else re.escape(f"{line}\n") for line in lines)
    assert re.fullmatch(pattern, f"{real.rstrip()}\n"), real
