"""The command line. Each command imports what it alone needs, so that none waits for what others need."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

import peekaping_producer
from peekaping_producer.config.variables import forget_drivers_variables
from peekaping_producer.errors import EXIT_CONFIGURATION, ConfigurationError, Unavailable
from peekaping_producer.json_output import json_line

EXIT_NOT_DONE = 1

app = typer.Typer(
    help="The scheduler of Peekaping: decides when each monitor is due and queues its health check.",
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"{peekaping_producer.APPLICATION} {peekaping_producer.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def bare(
    context: typer.Context,
    version: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run the producer, which is also what the bare command does."""
    if context.invoked_subcommand is None and not version:
        run()


@app.command()
def run() -> None:
    """Run the producer; settings come from the environment and `.env`."""
    from peekaping_producer.launch import launch

    raise typer.Exit(launch())


@app.command()
def check(*, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show whether `run` would work; change nothing. Exit code 1: a server does not answer, 2: fix what is shown."""
    from peekaping_producer.commands.check import check as look_through

    report = look_through()
    _print(report, report.text(), as_json=as_json)
    raise typer.Exit(report.exit_code)


@app.command()
def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every second, until Ctrl-C.")] = False,
    as_check: Annotated[
        bool, typer.Option("--check", help="Print one line; exit code 0, 1 or 2, as Nagios expects.")
    ] = False,
) -> None:
    """Show the fleet, the schedule and the queue; exit code 1 if there is trouble. Needs only REDIS_*."""
    if as_check:
        if as_json or watch:
            raise typer.BadParameter("--check prints one line: use it without --json and --watch")
        from peekaping_producer.commands.status_check import status_check

        raise typer.Exit(status_check())
    from peekaping_producer.commands.status import show_status
    from peekaping_producer.config.loading import load_redis_settings

    if not show_status(load_redis_settings(), as_json=as_json, watch=watch):
        raise typer.Exit(EXIT_NOT_DONE)


@app.command()
def run_now(
    monitors: Annotated[list[str], typer.Argument(metavar="ID|NAME", help="Monitors to check at once.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make monitors due at once; their regular check times do not change."""
    from peekaping_producer.commands.run_now import run_now as make_due
    from peekaping_producer.config.loading import load_settings

    result = make_due(load_settings(), monitors)
    _print(result, result.text(), as_json=as_json)
    if not result.done:
        raise typer.Exit(EXIT_NOT_DONE)


@app.command()
def pause(
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; shown wherever the pause is shown.")],
    length: Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 90s, 10m, 2h; at most 24h.")] = "10m",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Pause all checks for a while; they resume by themselves. Needs only REDIS_*."""
    from peekaping_producer.commands.pause import pause as pause_all
    from peekaping_producer.config.loading import load_redis_settings

    result = pause_all(load_redis_settings(), length, reason)
    _print(result, result.text(), as_json=as_json)
    if result.go_producer:
        raise typer.Exit(EXIT_NOT_DONE)


@app.command()
def resume(*, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """End a pause before its time. Needs only REDIS_*."""
    from peekaping_producer.commands.pause import resume as resume_all
    from peekaping_producer.config.loading import load_redis_settings

    result = resume_all(load_redis_settings())
    _print(result, result.text(), as_json=as_json)


@app.command()
def explain(
    monitor: Annotated[str, typer.Argument(metavar="ID|NAME", help="The monitor.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Explain why a monitor is, or is not, checked; exit code 1 if it is not."""
    from peekaping_producer.commands.explain import explain as look_up
    from peekaping_producer.config.loading import load_settings

    explanation = look_up(load_settings(), monitor)
    _print(explanation, explanation.text, as_json=as_json)
    if explanation.reason is not None:
        raise typer.Exit(EXIT_NOT_DONE)


def _print(value: Struct, lines: Iterable[str], *, as_json: bool) -> None:
    for line in [json_line(value)] if as_json else lines:
        typer.echo(line)


@app.command()
def probe() -> None:
    """Exit with 0 if the node that writes PRODUCER_ALIVE_FILE is alive, with 1 if not; for container probes."""
    from peekaping_producer.commands.probe import run_probe

    raise typer.Exit(run_probe())


@app.command()
def plan(  # noqa: PLR0913 - typer's options
    monitors: Annotated[int, typer.Option(help="How many monitors.")],
    interval: Annotated[int, typer.Option(help="Seconds between two checks of a monitor.")],
    nodes: Annotated[int, typer.Option(help="How many producers.")] = 1,
    outage: Annotated[int, typer.Option(help="Seconds without Redis, or without producers.")] = 600,
    calibrate: Annotated[
        Path | None, typer.Option(help="Take the costs from this bench.json, which `make bench` wrote.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Write an SVG of the load to this file.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a number of monitors needs, from measured costs and a simulated hour. Exit code 1: not possible."""
    from peekaping_producer.commands.plan import plan as work_out

    planned = work_out(monitors, interval, nodes, outage, calibrate, picture)
    _print(planned, planned.text(), as_json=as_json)
    if not planned.enough:
        raise typer.Exit(EXIT_NOT_DONE)


@app.command()
def demo(  # noqa: PLR0913 - typer's options
    monitors: Annotated[
        int | None, typer.Option(help="How many monitors, up to 100,000; default: a dozen named ones.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="How many seconds. Default: until Ctrl-C; without a terminal 30; with --break 90."),
    ] = None,
    interval: Annotated[int | None, typer.Option(help="Seconds between two checks of a monitor.")] = None,
    nodes: Annotated[int, typer.Option(help="How many producers.")] = 1,
    http_port: Annotated[
        int, typer.Option(help="The port of one producer's page and metrics; a free one if it is in use.")
    ] = 8035,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    breaking: Annotated[
        bool, typer.Option("--break", help="Kill a worker and a producer, archive tasks, flush Redis.")
    ] = False,
) -> None:
    """Show the producer at work, with its own Redis, database, targets and worker; it uses nothing of yours."""
    from peekaping_producer.demo.run import Options, run_demo

    raise typer.Exit(run_demo(Options(monitors, seconds, interval, nodes, http_port, as_json, breaking)))


def main() -> None:
    """Run the command. What needs operator action ends it with exit code 2 and one line for each problem."""
    forget_drivers_variables()
    try:
        app(prog_name="peekaping-producer")
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"peekaping-producer: {problem}", file=sys.stderr)  # noqa: T201 - standard error is the place
        sys.exit(EXIT_CONFIGURATION)
    except Unavailable as error:
        print(f"peekaping-producer: {error}; try again later", file=sys.stderr)  # noqa: T201 - likewise
        sys.exit(EXIT_NOT_DONE)
