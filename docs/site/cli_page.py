"""Write docs/cli.md, the reference of the command line, from the commands themselves."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from peekaping_producer import APPLICATION
from peekaping_producer.cli import app

PAGE = Path(__file__).parents[1] / "cli.md"
_INTRODUCTION = """# Command line

Made from the program's own help by `make docs`. `--help` after any command prints the same.
[commands.md](commands.md) describes what the commands print.
"""
_ONLY_TEXT = re.compile(r" <(list\[)?str\]?>")
"""The type of an argument that may be any text."""


def cli_page() -> str:
    """Return the page."""
    group: Any = get_command(app)
    commands = [(APPLICATION, group), *((f"{APPLICATION} {name}", command) for name, command in group.commands.items())]
    return _INTRODUCTION + "".join(line + "\n" for name, command in commands for line in _section(name, command))


def _section(name: str, command: Any) -> Iterator[str]:  # noqa: ANN401 - a type that typer does not export
    context = typer.Context(command, info_name=name)
    yield ""
    yield f"## {name.removeprefix(f'{APPLICATION} ')}"
    yield ""
    yield f"`{command.get_usage(context).removeprefix('Usage: ')}`"
    yield ""
    yield command.help
    records = [one.get_help_record(context) for one in command.get_params(context)]
    rows = [(_ONLY_TEXT.sub("", names), " ".join(text.split())) for names, text in records if names != "--help"]
    if rows:
        yield from ("", "| argument or option | meaning |", "|---|---|")
    for names, meaning in rows:
        yield f"| `{names}` | {meaning} |".replace("ID|", r"ID\|")


if __name__ == "__main__":
    PAGE.write_text(cli_page(), encoding="utf-8")
