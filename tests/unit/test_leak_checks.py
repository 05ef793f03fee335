"""The leak checks can fail: each is shown a test that leaks, and a neighbour that does not."""

from pathlib import Path

import pytest

from support.leaks import unknown_keys

pytest_plugins = ["pytester"]

LEAKY = """
    import asyncio, subprocess, sys
    import pytest
    from redis.asyncio import Redis

    kept = []

    async def test_task():
        kept.append(asyncio.create_task(asyncio.sleep(60)))

    async def test_task_that_ends(redis):
        await asyncio.create_task(redis.ping())

    def test_process():
        kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

    def test_process_that_ends():
        subprocess.run([sys.executable, "-c", ""], check=True)

    async def test_connection(redis, redis_server):
        kept.append(Redis(port=redis_server.port))
        await kept[-1].ping()

    async def test_connection_that_ends(redis, redis_server):
        async with Redis(port=redis_server.port) as other:
            await other.ping()

    async def test_key(redis):
        await redis.set("peekaping:sched:mine", 1)

    async def test_key_that_is_known(redis):
        await redis.set("peekaping:producer:leader", "me")

    @pytest.fixture(scope="session", autouse=True)
    def clean_up():
        yield
        for process in kept:
            if isinstance(process, subprocess.Popen):
                process.stdin.close()
                process.wait()
"""


@pytest.fixture
def leaky_run(pytester: pytest.Pytester) -> pytest.RunResult:
    """Run LEAKY with the checks, in a pytest of its own."""
    tests = Path(__file__).parents[1]
    pytester.makepyfile(LEAKY)
    pytester.makeini(f"""
        [pytest]
        pythonpath = "{tests}"
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = function
        """)
    pytester.makeconftest("""
        from support import leaks
        leaks.SETTLE_WITHIN_S = 0.3
        pytest_plugins = ["support.redis_fixtures", "support.leaks"]
        """)
    return pytester.runpytest_subprocess("-p", "no:valkey", "-p", "no:randomly", "-p", "no:cacheprovider")


def test_a_test_that_leaks_fails_and_its_neighbours_do_not(leaky_run: pytest.RunResult) -> None:
    leaky_run.assert_outcomes(passed=8, errors=4)
    leaky_run.stdout.fnmatch_lines_random(
        [
            "*ERROR at teardown of test_task _*",
            "*the test left tasks behind: <Task *sleep*",
            "*ERROR at teardown of test_process _*",
            "*the test left child processes behind: * (pid *",
            "*ERROR at teardown of test_connection _*",
            "*the test left Redis connections behind: unnamed from 127.0.0.1:*",
            "*ERROR at teardown of test_key _*",
            "*the test left Redis keys that no document names: peekaping:sched:mine",
        ]
    )


@pytest.mark.parametrize(
    "key",
    [
        b"peekaping:sched:due:old",
        b"peekaping:sched:leases",
        b"peekaping:sched:",
        b"peekaping:sched:due\n",
        b"my:peekaping:sched:due",
        b"asynq:{other}:pending",
        b"asynq:queues2",
        b"\xff",
    ],
)
def test_a_key_that_only_resembles_a_known_one_is_unknown(key: bytes) -> None:
    assert unknown_keys([key]) == [key.decode(errors="replace")]


def test_documented_keys_are_known() -> None:
    documented = [
        b"peekaping:sched:due",
        b"peekaping:sched:lease",
        b"peekaping:sched:claims",
        b"peekaping:producer:leader",
        b"asynq:queues",
        b"asynq:{healthcheck}:pending",
        b"asynq:{healthcheck}:t:healthcheck:\xff",
        b"asynq:servers",
        b"asynq:servers:{host:1:uuid}",
        b"asynq:workers:{host:1:uuid}",
    ]
    assert unknown_keys(documented) == []
