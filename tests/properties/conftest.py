"""What the property test needs: its options, one Redis with a clock for all examples, and the report of a run."""

from collections import Counter
from collections.abc import Iterator

import pytest

from properties.fences import FENCES
from properties.reached import EXAMPLES, REACHED, wanted
from properties.stage import Stage, staged

USUAL_EXAMPLES = 320


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the number of examples, and a way to see the test fail."""
    parser.addoption("--examples", type=int, default=USUAL_EXAMPLES, help="examples of the property test, in all")
    parser.addoption("--without", choices=FENCES, help="run the property test on scripts without this fence")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that was long enough to reach everything, and has not."""
    reporter: pytest.TerminalReporter | None = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and not session.exitstatus and not_reached(reached_in(reporter)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show how often each step, outcome and placement was reached."""
    reached = reached_in(terminalreporter)
    if reached:
        terminalreporter.section("reached")
        for name in sorted(wanted() | reached.keys()):
            terminalreporter.write_line(f"{reached[name]:7}  {name}")
    if missing := not_reached(reached):
        terminalreporter.section("FAILED: not reached", red=True)
        terminalreporter.write_line(", ".join(missing))


def reached_in(reporter: pytest.TerminalReporter) -> Counter[str]:
    """Return how often each was reached, in all processes."""
    reached: Counter[str] = Counter()
    for report in reporter.getreports("passed"):
        reached.update(dict(report.user_properties).get(REACHED, {}))
    return reached


def not_reached(reached: Counter[str]) -> list[str]:
    """Return what a whole run should have reached and has not."""
    return sorted(wanted() - reached.keys()) if reached[EXAMPLES] >= USUAL_EXAMPLES else []


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Share one Redis among the tests of this process."""
    with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage
