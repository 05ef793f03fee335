"""The way in, by name or by `python -m peekaping_producer`: signals first, and then what takes time to import."""

import sys

from peekaping_producer.node.process_signals import take_signals

take_signals()


def main() -> None:
    """Run the command."""
    if sys.argv[1:] == ["probe"]:
        # Probes run every few seconds; the command line's library would make them four times as slow.
        from peekaping_producer.commands.probe import run_probe  # noqa: PLC0415

        sys.exit(run_probe())
    from peekaping_producer.cli import main as run_command  # noqa: PLC0415 - half a second, in which signals count

    run_command()


if __name__ == "__main__":
    main()
