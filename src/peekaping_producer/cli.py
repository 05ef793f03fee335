"""The command line."""

import sys
from typing import Annotated

import typer

from peekaping_producer import __version__
from peekaping_producer.config import load_settings
from peekaping_producer.errors import ConfigurationError

EXIT_CONFIGURATION = 2

app = typer.Typer(
    help="The scheduler of Peekaping: decides when each monitor is due and queues its health check.",
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"peekaping-producer {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def bare(
    context: typer.Context,
    version: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run the producer: what the bare command does too."""
    if context.invoked_subcommand is None and not version:
        run()


@app.command()
def run() -> None:
    """Run the producer; settings come from the environment and `.env`."""
    from peekaping_producer.app import run as run_producer  # noqa: PLC0415 - --version and --help need none of it

    run_producer(load_settings())


def main() -> None:
    """Run the command; what only a person can mend ends it with code 2 and one line for each problem."""
    try:
        app(prog_name="peekaping-producer")
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"peekaping-producer: {problem}", file=sys.stderr)  # noqa: T201 - standard error is the place
        sys.exit(EXIT_CONFIGURATION)
