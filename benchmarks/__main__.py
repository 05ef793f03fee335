"""`python -m benchmarks`: measure, print a table, write a JSON file and a plot."""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.against import compare_all, differences
from benchmarks.ceiling import shares
from benchmarks.figures import Case
from benchmarks.flame import find_profiler
from benchmarks.part import DEFAULT, FULL, QUICK, Bench, Part, Size
from benchmarks.parts import PARTS
from benchmarks.plot import as_plot
from benchmarks.report import Measured, Report, as_json, machine, read_report
from benchmarks.table import as_text

OUT = Path(__file__).parent / "out"


class Options(Struct, frozen=True):
    """What the command line asks for."""

    parts: list[Part]
    size: Size
    out: Path
    profile: bool
    earlier: Report | None
    """What to compare with."""


def read_options(arguments: Sequence[str] | None = None) -> Options:
    """Parse the command line. Exits with code 2, and a line that says why, if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="parts, and about how long each takes:\n" + "\n".join(map(_described, PARTS.values())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these parts")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--full", action="store_true", help="run everything, at all sizes; takes about two hours")
    sizes.add_argument("--quick", action="store_true", help="small sizes, one round: shows that it runs, not how fast")
    parser.add_argument("--rounds", type=_count, metavar="N", help="rounds of each figure that has several")
    parser.add_argument(
        "--monitors", type=_count, nargs="+", metavar="N", help="monitors in each herd, all due at once"
    )
    parser.add_argument("--nodes", type=_count, nargs="+", metavar="N", help="nodes of the herds on Postgres")
    parser.add_argument("--steady-monitors", type=_count, nargs="+", metavar="N", help="monitors in the steady loads")
    parser.add_argument(
        "--steady-seconds", type=_count, metavar="S", dest="steady_s", help="seconds of each steady load"
    )
    parser.add_argument("--entries", type=_count, metavar="N", help="periodic entries of each of the other schedulers")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an earlier bench.json to compare with")
    parser.add_argument("--profile", action="store_true", help="also a flame graph of each herd, by py-spy")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for bench.json, bench.svg and flame graphs")
    options = parser.parse_args(arguments)

    unknown = [name for name in options.only or () if name not in PARTS]
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}: the parts are {', '.join(PARTS)}")
    if options.profile and find_profiler() is None:
        parser.error("--profile needs py-spy: `pip install py-spy`")
    try:
        earlier = read_report(options.against) if options.against else None
    except ValueError as error:
        parser.error(f"--against {error}")
    parts = [
        part
        for part in PARTS.values()
        if (part.name in options.only if options.only else part.by_default or options.full)
    ]
    size = FULL if options.full else QUICK if options.quick else DEFAULT
    for name in ("rounds", "monitors", "nodes", "steady_monitors", "steady_s", "entries"):
        given = getattr(options, name)
        if given is not None:
            size = msgspec.structs.replace(size, **{name: tuple(given) if isinstance(given, list) else given})
    return Options(parts, size, options.out, options.profile, earlier)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _described(part: Part) -> str:
    only = "" if part.by_default else "; only with --full or --only"
    return f"  {part.name:14} {part.measures} ({part.takes_s} s{only})"


def measure(options: Options) -> Report:
    """Run the parts. One that fails is recorded as failed, and the others go on."""
    where = machine()
    measured: dict[str, Measured] = {}
    with Bench(options.size, options.out if options.profile else None) as bench:
        for part in options.parts:
            sys.stderr.write(f"{part.name}: {part.measures}\n")
            began_s, cases, failed = time.monotonic(), list[Case](), ""
            try:
                cases.extend(part.measure(bench))
            except Exception as error:  # noqa: BLE001 - what the other parts have measured is not lost
                traceback.print_exc()
                failed = f"{type(error).__name__}: {error}"
            measured[part.name] = Measured(round(time.monotonic() - began_s, 1), cases, failed)
    compared = list(shares([case for one in measured.values() for case in one.cases], options.size.monitors[0]))
    if compared:
        measured["shares"] = Measured(0, compared)
    return Report(where, options.size, measured)


def main() -> int:
    """Run the command; return its exit code."""
    options = read_options()
    options.out.mkdir(parents=True, exist_ok=True)
    report = measure(options)
    earlier = options.earlier
    print(as_text(report, compare_all(report, earlier) if earlier else None))
    for line in differences(report, earlier) if earlier else ():
        print(f"\nThe comparison is doubtful: {line}")
    for name, content in (("bench.json", as_json(report)), ("bench.svg", as_plot(report))):
        if content:
            (options.out / name).write_text(content, "utf-8")
            print(f"wrote {options.out / name}")
    return int(any(one.failed for one in report.parts.values()))


if __name__ == "__main__":
    sys.exit(main())
