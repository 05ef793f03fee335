"""The Grafana dashboard shows every metric, and uses only names, labels and values that a node serves."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.programs import needed
from support.served_metrics import LISTED

PATH = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboard.json"
DASHBOARD: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
FROM_PROMETHEUS = {"instance", "job", "le"}
"""Labels that Prometheus adds, or that belong to any histogram."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def queries() -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every query with the title of its panel."""
    for panel in PANELS:
        for target in panel.get("targets", []):
            yield panel["title"], target


EXPRESSIONS = [target["expr"] for _, target in queries()]


def test_it_uses_what_a_node_serves() -> None:
    for expression in EXPRESSIONS:
        used = re.findall(r"(peekaping_producer_\w+)\{(.*?)\}", expression)
        assert len(used) == expression.count("peekaping_producer_"), expression
        for name, selectors in used:
            labels = LISTED[re.sub(r"_(bucket|sum|count)$", "", name)]
            for label, operator, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', selectors):
                assert label in labels.keys() | FROM_PROMETHEUS, expression
                assert operator == "=~" or value in labels[label], expression
            for grouping in re.findall(r"by \((.*?)\)", expression):
                assert set(grouping.split(", ")) <= labels.keys() | FROM_PROMETHEUS, expression


def test_a_legend_names_labels_that_its_query_leaves() -> None:
    for _, target in queries():
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        grouped = re.search(r"by \((.*?)\)", target["expr"])
        aggregated = re.match(r"\(*(max|sum|count|histogram_quantile)\b", target["expr"])
        if grouped:
            assert shown <= set(grouped[1].split(", ")), target
        elif aggregated:
            assert not shown, target


@pytest.mark.parametrize("metric", sorted(LISTED))
def test_it_shows_every_metric(metric: str) -> None:
    assert any(re.search(rf"\b{metric}(_bucket|_sum|_count)?\b", expression) for expression in EXPRESSIONS), metric


def test_its_source_and_nodes_are_chosen_in_the_dashboard() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["instance"]["query"]["query"] == "label_values(peekaping_producer_build_info, instance)"
    sources = [holder.get("datasource") for _, holder in queries()]
    sources += [panel["datasource"] for panel in PANELS if panel["type"] != "row"]
    assert all(source == SOURCE for source in sources)


def test_grafana_can_place_every_panel() -> None:
    """Schema 39 is that of Grafana 11, which later ones migrate by themselves."""
    assert (DASHBOARD["schemaVersion"], DASHBOARD["uid"]) == (39, "peekaping-producer")
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"].endswith(".")


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    promtool = needed("promtool")
    rules = [
        {"record": f"query:{number}", "expr": expression.replace("$__rate_interval", "1m").replace("$instance", ".*")}
        for number, expression in enumerate(EXPRESSIONS)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
