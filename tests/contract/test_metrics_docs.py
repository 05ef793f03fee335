"""docs/metrics.md lists the metrics that a node serves; the alerts use these, pass their tests and are explained."""

import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.timing import Timing
from support.databases import SqliteDatabase
from support.http import client_of
from support.producer import producing
from support.programs import needed
from support.served_metrics import ANY_VALUE, LISTED, ROWS
from support.server_process import free_port

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"


def _unit(name: str) -> str:
    return next((unit for unit in ("seconds", "bytes") if f"_{unit}" in name), "")


async def test_the_docs_list_what_a_node_serves(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    port = free_port()
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port, producer_http_port=port)
    async with producing(settings, Timing(figures_kept_s=0)) as producer, client_of(port) as client:
        await producer.until_logged("no active monitor found")
        text = await client.metrics()
    served = []
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels: dict[str, list[str]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                values = labels.setdefault(label, [])
                values += [value] if value not in values else []
        cells = [
            f"`{label}`" if label in ANY_VALUE else f"`{label}`: {', '.join(values)}"
            for label, values in labels.items()
            if label != "le"
        ]
        served.append((name, family.type, _unit(name), ", ".join(cells), family.documentation))
    assert served == ROWS


def test_the_alerts_use_metrics_that_exist() -> None:
    used = set(re.findall(r"peekaping_producer_\w+", RULES.read_text(encoding="utf-8")))
    assert {name.removesuffix("_bucket") for name in used} <= LISTED.keys()


def test_the_runbook_explains_every_alert() -> None:
    rules = RULES.read_text(encoding="utf-8")
    alerts = re.findall(r"alert: (\w+)", rules)
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == alerts
    assert re.findall(r"runbook: (.+)", rules) == [f"docs/runbook.md#{alert.lower()}" for alert in alerts]


@pytest.mark.parametrize(
    "arguments", [("check", "rules", "--lint-fatal", "rules.yml"), ("test", "rules", "rules_test.yml")]
)
def test_prometheus_takes_the_alerts_and_they_fire_when_they_should(arguments: tuple[str, ...]) -> None:
    ended = subprocess.run(
        [needed("promtool"), *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("alert", re.findall(r"alert: (\w+)", RULES.read_text(encoding="utf-8")))
def test_every_alert_is_seen_to_fire_and_not_to_fire(alert: str) -> None:
    tests = RULES.with_name("rules_test.yml").read_text(encoding="utf-8")
    assert re.search(rf"alertname: {alert}, eval_time: \S+, exp_alerts: \[\]", tests)
    assert re.search(rf"alertname: {alert}\n\s+eval_time: \S+\n\s+exp_alerts:\n\s+- exp_labels", tests)
