"""The entry point, by name or by `python -m peekaping_producer`: handles signals before the slow imports."""

import sys

import peekaping_producer
from peekaping_producer.hidden import hide
from peekaping_producer.node.process_signals import take_signals

take_signals()
hide("opentelemetry")  # redis-py would import it; tracing makes it visible again


def main() -> None:
    """Run the command. `--version` and `probe` do not import the library for command lines: it would slow them down."""
    match sys.argv[1:]:
        case ["--version"]:
            print(peekaping_producer.APPLICATION, peekaping_producer.__version__)  # noqa: T201 - the answer
        case ["probe"]:
            from peekaping_producer.commands.probe import run_probe  # noqa: PLC0415 - see above

            sys.exit(run_probe())
        case _:
            from peekaping_producer.cli import main as run_command  # noqa: PLC0415 - signals are already handled

            run_command()


if __name__ == "__main__":
    main()
