"""What the property test needs: its options, and one Redis with a clock for all of them."""

from collections.abc import Iterator

import pytest

from properties.stage import Stage, staged


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the number of examples."""
    parser.addoption("--examples", type=int, default=320, help="examples of the property test, in all")


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Share one Redis among the tests of this process."""
    with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage
