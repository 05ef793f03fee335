"""Every block of code in README and docs is run or checked by a test, and so is each command in the text."""

import inspect
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast, get_type_hints

import msgspec
import pytest
import yaml
from docs.site.cli_page import PAGE, cli_page
from starlette.routing import Route
from typer.main import get_command

from peekaping_producer.cli import app
from peekaping_producer.commands.check import Report
from peekaping_producer.config.loading import load_settings
from peekaping_producer.config.settings import Settings
from peekaping_producer.json_output import SCHEMA, json_line
from peekaping_producer.leader.event_message import STATUS_CHANGED, read_event
from peekaping_producer.report.explain import Explanation
from peekaping_producer.report.pausing import Paused, Resumed
from peekaping_producer.report.run_now import RunNow
from peekaping_producer.report.status_values import Status
from peekaping_producer.tracing.wanted import ENDPOINTS
from peekaping_producer.web.probes import Verdict
from peekaping_producer.web.routes import application
from support.docs import PAGES, ROOT, Block, Command, blocks, commands, inline_code
from support.programs import needed

BLOCKS = list(blocks())
PRODUCER = "peekaping-producer"
DATABASE = {"DB_HOST": "db", "DB_PORT": "5432", "DB_USER": "me", "DB_PASS": "hush", "DB_NAME": "peekaping"}
OF_OTHERS = {"PGHOST", "PGUSER", "PGPASSWORD"}
"""Variables of other programs."""
OTHER_PROGRAMS = {"cp", "createdb", "dropdb", "echo", "grep", "helm", "install", "kill", "pip", "psql", "python3"} | {
    "redis-cli",
    "sleep",
    "wait",
}
JSON: Final[dict[str, type[msgspec.Struct]]] = {
    "check": Report,
    "status": Status,
    "explain": Explanation,
    "run-now": RunNow,
    "pause": Paused,
    "resume": Resumed,
}
"""What commands print with `--json`; tests in tests/fundamentals compare the blocks with what they print."""
RUN_ELSEWHERE = {"sql": "databases.md", "mysql": "databases.md", "js": "databases.md", "acl": "configuration.md"}
"""Blocks that other tests take from the docs and run: support/database_users.py, support/redis_rights.py."""


def parsed(arguments: list[str]) -> None:
    """Parse arguments as the producer does. Raises a usage error, or Exit for --version."""
    group: Any = get_command(app)
    context = group.make_context(PRODUCER, list(arguments))
    name, command, rest = group.resolve_command(context, arguments) if arguments else ("run", group.commands["run"], [])
    command.make_context(name, list(rest), parent=context)


class Unused:
    """What an application needs to answer; here nobody asks."""

    def __getattr__(self, name: str) -> "Unused":
        return self


def _part(kind: type) -> Any:
    """Return a part of the application: a real one if it has routes of its own."""
    if not hasattr(kind, "routes"):
        return Unused()
    return kind(*(Unused() for _ in inspect.signature(kind).parameters))


def routes() -> dict[str, set[str]]:
    """Return the paths that are served, and their methods."""
    parts = {name: _part(kind) for name, kind in get_type_hints(application).items() if name != "return"}
    served = [route for route in application(**parts).routes if isinstance(route, Route)]
    # A function answers GET unless the route says otherwise; Unused is none, so its route says nothing.
    return {re.sub(r":\w+", "", route.path): {*(route.methods or ("GET",))} - {"HEAD"} for route in served}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[str, str]], Settings]:
    """Return a function that loads settings from the variables of a block."""

    def load(variables: dict[str, str]) -> Settings:
        monkeypatch.chdir(tmp_path)
        for name in {*Settings.model_fields, *variables}:
            monkeypatch.delenv(name.upper(), raising=False)
        postgres = {"DB_TYPE": "postgres", **DATABASE}
        for name in variables:
            postgres.pop(name.removesuffix("_FILE"), None)
        (tmp_path / "secret").write_text("hush")
        for name, value in (postgres | variables).items():
            is_file = re.search(r"_(FILE|CA|CERT|KEY)$", name) and name != "PRODUCER_ALIVE_FILE"
            monkeypatch.setenv(name, str(tmp_path / "secret") if is_file else value)
        return load_settings()

    return load


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_a_block_is_of_a_kind_that_is_checked(block: Block, load: Callable[[dict[str, str]], Settings]) -> None:
    language, _, name = block.language.partition(" ")
    match language:
        case "sh":
            check_script(block, load)
        case "json" if name == "probe":
            assert msgspec.to_builtins(msgspec.json.decode(block.text, type=Verdict)) == json.loads(block.text)
        case "json" if name == "event":
            event = read_event(STATUS_CHANGED, block.text.encode())
            assert event is not None
            assert event.pending
        case "json":
            check_json(block, JSON[name])
        case "yaml":
            check_prometheus(block)
        case "console":
            assert block.text.splitlines()[0] in _compared(), "tests/unit/test_docs_outputs.py does not have it"
        case "text":
            assert re.search("[─│▶]", block.text), "a drawing?"
        case _:
            assert block.page.name == RUN_ELSEWHERE[language]
            assert [one.name for one in BLOCKS if one.language == language] == [block.name]


def _compared() -> set[str]:
    source = (Path(__file__).parent / "test_docs_outputs.py").read_text(encoding="utf-8")
    return set(re.findall(r'^@shown\(r?"(.*)"\)$', source, re.MULTILINE))


def check_script(block: Block, load: Callable[[dict[str, str]], Settings]) -> None:
    variables: dict[str, str] = {}
    found = list(commands(block.text))
    assert found
    for command in found:
        variables |= command.variables
        check_command(command)
    ours = {name: value for name, value in variables.items() if name not in {*OF_OTHERS, *ENDPOINTS}}
    assert {name.upper() for name in Settings.model_fields} >= ours.keys()
    if ours:
        load(ours)


def check_command(command: Command) -> None:
    """Make sure that a command could be run: its program is known, and ours takes these arguments."""
    program, *arguments = command.words or ["wait"]
    name = Path(program).name
    assert [
        word for word in arguments if word.startswith(("deploy/docker", "src/")) and not (ROOT / word).exists()
    ] == []
    files = [word for word in arguments if re.fullmatch(r"(?!docker-compose\.)[\w./-]+\.ya?ml", word)]
    deployed = {path.name for path in (ROOT / "deploy").rglob("*")}
    assert [file for file in files if Path(file).name not in deployed] == []
    if name == PRODUCER:
        parsed(arguments)
    elif name == "make":
        check_make(arguments)
    elif name == "curl":
        (path,) = re.findall(r"http://127\.0\.0\.1:8035(/\S*)", " ".join(arguments))
        assert path in routes()
    elif name == "systemctl":
        assert f"{arguments[-1]}.service" in deployed
    elif name in {"docker", "kubectl"}:
        if PRODUCER in arguments:
            parsed(arguments[arguments.index(PRODUCER) + 1 :])
        elif "run" in arguments:
            parsed(arguments[arguments.index("producer") + 1 :])
    else:
        assert name in OTHER_PROGRAMS


def check_make(arguments: list[str]) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", text, re.MULTILINE))
    variables = dict(one.split("=", 1) for one in arguments if "=" in one)
    assert {one for one in arguments if "=" not in one} <= targets
    assert all(f"echo '  {name}=" in text for name in variables)
    if arguments[0] == "demo":
        parsed(["demo", *variables.get("ARGS", "").split()])


def check_json(block: Block, kind: type[msgspec.Struct]) -> None:
    """Make sure that a block has the fields of what is printed, in this order, and their types."""
    shown = json.loads(block.text)
    assert shown["schema"] == SCHEMA
    printed = json.loads(json_line(msgspec.convert({**shown}, kind)))
    assert json.dumps(printed) == json.dumps(shown)


def check_prometheus(block: Block) -> None:
    """Make sure that the configuration is one, and that the rules that it names are ours."""
    settings = yaml.safe_load(block.text)
    folder = ROOT / "deploy" / "prometheus"
    assert [name for name in settings["rule_files"] if not (folder / name).is_file()] == []
    check = [needed("promtool"), "check", "config", "--syntax-only", "/dev/stdin"]
    ended = subprocess.run(check, input=block.text, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if page != PAGE], ids=lambda page: page.name)
def test_a_command_in_the_text_exists(page: Path) -> None:
    for code in inline_code(page):
        if re.match(rf"({PRODUCER}|make) ", code):
            (command,) = commands(code.replace("[", "").replace("]", "").replace("|", "-").replace("...", ""))
            if len(command.words) == 2 and command.words[0] == PRODUCER:
                assert command.words[1] in cast("Any", get_command(app)).commands
            else:
                check_command(command)


@pytest.mark.parametrize("name", ["operate.md", "troubleshooting.md"])
def test_what_the_pages_on_trouble_quote_is_written_by_the_code(name: str) -> None:
    sources = (ROOT / "src" / "peekaping_producer").rglob("*.py")
    # Parts that are filled in are left out, on both sides, and so are places where a text is broken.
    code = re.sub(r'"\s+f?"', "", "".join(path.read_text(encoding="utf-8") for path in sources))
    for text in inline_code(ROOT / "docs" / name):
        if re.fullmatch(r"[A-Za-z' ,:]+( \d.*|…:? ?.*)?", text) and " " in text and not text.startswith("make "):
            for part in re.split(r"\d+|…|: ", text):
                assert part.strip() in code, text


def test_the_reference_of_the_command_line_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == cli_page(), "make docs writes it"


def test_the_reference_of_http_has_every_path() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(/\S*)` \| ([A-Z, ]+) \|", text, re.MULTILINE)
    assert {path: set(methods.split(", ")) for path, methods in rows} == routes()


@pytest.mark.parametrize("arguments", [["nothing"], ["status", "--nothing"], ["explain"], ["demo", "--nodes", "two"]])
def test_a_wrong_command_would_be_found(arguments: list[str]) -> None:
    with pytest.raises(Exception, match=r"No such|Missing|valid integer"):
        parsed(arguments)


def test_there_are_blocks_of_each_kind() -> None:
    assert {block.language.split()[0] for block in BLOCKS} == {"sh", "json", "yaml", "console", "text", *RUN_ELSEWHERE}
