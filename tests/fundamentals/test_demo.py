"""The demo: it shows checks on time, touches nothing but its own, and leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from redis import Redis

from peekaping_producer.embedded import EmbeddedRedis

DEMO = [sys.executable, "-m", "peekaping_producer", "demo"]
COLUMNS = ("up", "down", "pending", "maintenance", "dropped", "failed", "killed", "unfinished")


def hostile(redis_server: EmbeddedRedis, folder: Path) -> dict[str, str]:
    """Return an environment that names somebody's deployment, as a `.env` in `folder` does too."""
    names = {
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(redis_server.port),
        "DB_TYPE": "sqlite",
        "DB_NAME": str(folder / "theirs.sqlite"),
        "http_proxy": "http://127.0.0.1:9",
    }
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in names.items()))
    return {**os.environ, **names, "TMPDIR": str(folder)}


def test_checks_run_on_time_and_nothing_else_is_touched(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    with Redis(unix_socket_path=str(redis_server.unix_socket)) as theirs:
        theirs.flushall()
        options = ["--json", "--seconds", "9", "--interval", "2"]
        demo = subprocess.run(
            [*DEMO, *options], cwd=tmp_path, env=hostile(redis_server, tmp_path), capture_output=True, check=False
        )
        assert theirs.dbsize() == 0
    assert demo.returncode == 0, demo.stderr.decode()
    report = json.loads(demo.stdout)
    assert (report["missed"], report["doubled"]) == (0, 0)
    assert report["runs"] >= 13 * 4 - 13
    assert min(report["up"], report["down"], report["maintenance"]) > 0
    assert sum(report[column] for column in COLUMNS) == report["runs"]
    assert (report["killed"], report["skipped"]) == (0, 0)
    assert 0 <= report["lateness_p50_ms"] <= report["lateness_p99_ms"] < 2000
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_what_breaking_costs_is_counted_and_named(tmp_path: Path) -> None:
    """A killed worker's checks, and the slots that a killed producer and a flush leave out."""
    options = ["--break", "--seconds", "24", "--interval", "2"]
    demo = subprocess.run(
        [*DEMO, *options], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, check=False, text=True
    )
    lines = demo.stdout.splitlines()
    columns = re.fullmatch(r"  checks    ([\d,]+): (.+)", next(line for line in lines if line.startswith("  checks")))
    assert columns
    counts = {name: int(count) for count, name in (part.split(" ", 1) for part in columns[2].split(", "))}
    assert sum(counts.values()) == int(columns[1].replace(",", ""))
    assert counts["killed with their worker"] > 0
    skipped = re.search(r"^  skipped   (\d+), while something was broken$", demo.stdout, re.MULTILINE)
    assert skipped
    # A dead producer's claims come back after more than three of these intervals.
    assert int(skipped[1]) > 0
    assert "Nothing was lost." not in demo.stdout
    assert "producer killed (-9), restarted a second later" in demo.stdout
    assert any(line.startswith("Missed: no check for longer than") and "Doubled:" in line for line in lines)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_nothing_survives_a_killed_demo(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*DEMO, "--json"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        assert demo.stderr is not None
        assert any(b"0 s" in line and b"runs" in line for line in demo.stderr), "it never began"
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) == 3
        demo.kill()
        _, alive = psutil.wait_procs(children, timeout=5)
        assert alive == []
    # Its folder is swept by the next demo.
    assert len(list(tmp_path.iterdir())) == 1
    short = subprocess.run(
        [*DEMO, "--json", "--seconds", "0.1"], env=environment, capture_output=True, check=False, timeout=60
    )
    assert short.returncode == 0, short.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_a_signal_ends_it_with_the_summary(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*DEMO, "--seconds", "60"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as demo:
        assert demo.stderr is not None
        assert any(b"0 s" in line and b"runs" in line for line in demo.stderr), "it never began"
        began_s = time.monotonic()
        demo.send_signal(signal.SIGTERM)
        assert demo.stdout is not None
        assert b"Nothing was lost." in demo.stdout.read()
        assert demo.wait(20) == 0
        assert time.monotonic() - began_s < 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--monitors", "100001"], "--monitors is 100001"),
        (["--monitors", "0"], "--monitors is 0"),
        (["--interval", "0"], "--interval is 0"),
        (["--seconds", "-1"], "--seconds is -1"),
        (["--nodes", "0"], "--nodes is 0"),
    ],
)
def test_wrong_options_are_told_in_one_line(options: list[str], complaint: str) -> None:
    demo = subprocess.run([*DEMO, *options], capture_output=True, check=False, text=True)
    assert demo.returncode == 2
    assert complaint in demo.stderr
    assert "Traceback" not in demo.stderr
