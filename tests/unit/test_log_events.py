"""Log events are constants, each is used, and docs/logs.md lists each once, as the code has it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import asdict

from peekaping_producer import observe
from peekaping_producer.node.outage import _EVENTS
from peekaping_producer.observe.events import LogEvent

PACKAGE = Path(observe.__file__).parents[1]
DOCS = (PACKAGE.parents[1] / "docs" / "logs.md").read_text()
LEVELS = ["debug", "info", "warning", "error"]
LEVEL_OF = {"Notices": "warning", "note": "error", "kept_running": "error", "_end": "warning"}
"""The level at which a function logs an event that it is given; that of `Paced` is given to it."""
GIVEN = {
    "observe/log.py",
    "observe/notices.py",
    "observe/paced.py",
    "observe/faults.py",
    "node/guard.py",
    "node/outage.py",
}
"""Modules that log an event which they are given; its type is LogEvent."""


@cache
def modules() -> dict[str, ast.Module]:
    """Parse the package's modules, by their paths in it."""
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


class Logged(Struct, frozen=True):
    """A place where an event is logged."""

    place: str
    constants: list[LogEvent]
    """Those that it may be; none where it is no constant."""
    level: str
    fields: set[str]


def constants(event: ast.expr) -> list[LogEvent]:
    """Return the constants that an expression may be."""
    if not isinstance(event, ast.Attribute):
        return []
    source, name = ast.unparse(event.value), event.attr
    if source == "self._events":
        return [asdict(events)[name] for events in _EVENTS.values()]
    return [LogEvent[name]] if source == "LogEvent" else []


@cache
def logged() -> list[Logged]:
    """Return every place where an event is logged."""
    return list(_logged())


def _logged() -> Iterator[Logged]:
    for module, tree in modules().items():
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
            receiver, _, name = ast.unparse(call.func).rpartition(".")
            if name in LEVELS and re.search(r"log(ger)?$", receiver):
                events, level = call.args[:1], name
            elif name == "Paced" or name in LEVEL_OF:
                events = [one for one in call.args if re.match(r"(LogEvent|self\._events)\.", ast.unparse(one))]
                level = LEVEL_OF.get(name) or ast.unparse(call.args[0]).rpartition(".")[2]
            else:
                continue
            fields = {keyword.arg for keyword in call.keywords if keyword.arg} - {"exc_info"}
            for event in events:
                yield Logged(f"{module}:{call.lineno}", constants(event), level, fields)


@cache
def docstrings() -> dict[LogEvent, str]:
    (enum,) = [node for node in modules()["observe/events.py"].body if isinstance(node, ast.ClassDef)]
    names = [ast.unparse(node).partition(" = ")[0] for node in enum.body if isinstance(node, ast.Assign)]
    texts = [str(ast.literal_eval(node.value)) for node in enum.body[1:] if isinstance(node, ast.Expr)]
    return {LogEvent[name]: " ".join(text.split()) for name, text in zip(names, texts, strict=True)}


ROWS = re.findall(rf"^(\| `([^`]+)` \| (?:{'|'.join(LEVELS)})\b.*)$", DOCS, re.MULTILINE)


def test_only_constants_are_logged() -> None:
    assert len(logged()) > len(LogEvent)
    assert [one.place for one in logged() if not one.constants and one.place.partition(":")[0] not in GIVEN] == []


def test_every_event_is_logged() -> None:
    assert set(LogEvent) - {event for one in logged() for event in one.constants} == set()


@pytest.mark.parametrize("event", LogEvent)
def test_an_event_is_a_subject_and_a_state_in_lower_case(event: LogEvent) -> None:
    assert re.fullmatch(r"[a-z]+( [a-z]+)*(, [a-z ]+)?", event)


def test_the_docs_list_each_event_once_and_no_other() -> None:
    assert sorted(event for _, event in ROWS) == sorted(LogEvent)


@pytest.mark.parametrize("event", LogEvent)
def test_the_docs_say_of_an_event_what_the_code_says(event: LogEvent) -> None:
    (row,) = [row for row, listed in ROWS if listed == event]
    places = [one for one in logged() if event in one.constants]
    levels = ", ".join(sorted({one.level for one in places}, key=LEVELS.index))
    fields = row.split(" | ")[2]
    meaning, _, action = docstrings()[event].removesuffix(" Nothing to do.").partition(" To do: ")
    assert row == f"| `{event}` | {levels} | {fields} | {meaning} | {action.removesuffix('.') or 'nothing'} |"
    assert set().union(*(one.fields for one in places)) <= set(re.findall(r"`(\w+)`", fields))
