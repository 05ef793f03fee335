"""The demo: it shows checks on time, touches nothing but its own, and leaves nothing behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest
from redis import Redis

from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.demo.run import Report, summary_lines

ENDS = ("up", "down", "pending", "maintenance", "dropped", "failed", "killed", "unfinished")
"""The columns of the report; every check is in exactly one of them."""
BREAKING = ["--break", "--seconds", "14", "--interval", "2"]
DEMO = [sys.executable, "-m", "peekaping_producer", "demo", "--http-port", "0"]


def hostile(redis_server: RedisServer, folder: Path) -> dict[str, str]:
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


def test_checks_run_on_time_and_nothing_else_is_touched(redis_server: RedisServer, tmp_path: Path) -> None:
    with Redis(unix_socket_path=str(redis_server.unix_socket)) as theirs:
        theirs.flushall()
        options = ["--json", "--seconds", "9", "--interval", "2"]
        demo = subprocess.run(
            [*DEMO, *options], cwd=tmp_path, env=hostile(redis_server, tmp_path), capture_output=True, check=False
        )
        assert theirs.dbsize() == 0
    assert demo.returncode == 0, demo.stderr.decode()
    report = json.loads(demo.stdout)
    assert (report["schema"], report["missed"], report["doubled"]) == (1, 0, 0)
    assert report["checks"] >= 13 * 4 - 13
    assert sum(report[end] for end in ENDS) == report["checks"]
    assert (report["killed"], report["skipped"], report["breakages"]) == (0, 0, [])
    assert min(report["up"], report["down"], report["maintenance"]) > 0
    assert 0 <= report["lateness_p50_ms"] <= report["lateness_p99_ms"] < 2000
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def printed_checks(summary: str) -> tuple[int, dict[str, int]]:
    """Return how many checks the printed summary counts, and each of its columns."""
    line = next(line for line in summary.splitlines() if line.startswith("  checks "))
    checks, _, ends = line.removeprefix("  checks").partition("=")
    columns = [end.strip().split(" ", 1) for end in ends.split(",") if end]
    return int(checks), {name: int(number) for number, name in columns}


def test_a_broken_demo_counts_every_check_once_and_names_what_was_lost(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.run([*DEMO, "--json", *BREAKING], env=environment, capture_output=True, check=False, text=True)
    assert "killed processes are restarted after 1 s" in demo.stderr
    report = json.loads(demo.stdout)
    assert sum(report[end] for end in ENDS) == report["checks"]
    assert report["killed"] > 0
    assert report["skipped"] > 0
    restarts = [line.split("s  ", 1)[1] for line in report["breakages"] if "restarted" in line]
    assert restarts == ["worker restarted", "producer restarted"]

    summary = "\n".join(summary_lines(msgspec.convert(report, Report)))
    checks, ends = printed_checks(summary)
    assert checks == sum(ends.values()) == report["checks"]
    assert ends["killed with their worker"] == report["killed"]
    assert "  skipped   0" not in summary
    assert sum(line.startswith("  (missed: ") and "doubled: " in line for line in summary.splitlines()) == 1
    assert "Nothing was lost" not in summary


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_nothing_survives_a_killed_demo(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*DEMO, "--json"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        assert demo.stderr is not None
        assert any(b"0 s" in line and b"checks," in line for line in demo.stderr), "it never began"
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


def test_it_serves_http_and_a_signal_ends_it_with_the_summary(tmp_path: Path) -> None:
    """The port that it is to use is in use, so it takes another one and says so."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        subprocess.Popen(
            [*DEMO, "--seconds", "60", "--http-port", str(port := taken.getsockname()[1])],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as demo,
    ):
        assert demo.stderr is not None
        lines = []
        for line in demo.stderr:
            lines.append(line.decode())
            if b"0 s" in line and b"checks," in line:
                break
        assert f"demo: port {port} is in use: using another one\n" in lines
        (url,) = re.findall(r"^demo: metrics and page: (\S+)$", "".join(lines), re.MULTILINE)
        page = httpx.get(url, trust_env=False, timeout=30)
        assert page.status_code == 200
        assert "<h1" in page.text
        metrics = httpx.get(f"{url}metrics", trust_env=False, timeout=30)
        assert re.search(r"^peekaping_producer_leader 1.0$", metrics.text, re.MULTILINE)
        began_s = time.monotonic()
        demo.send_signal(signal.SIGTERM)
        assert demo.stdout is not None
        summary = demo.stdout.read().decode()
        checks, ends = printed_checks(summary)
        assert checks == sum(ends.values())
        assert "Nothing was lost." in summary
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
        (["--http-port", "65536"], "--http-port is 65536"),
    ],
)
def test_wrong_options_are_reported_in_one_line(options: list[str], complaint: str) -> None:
    demo = subprocess.run([*DEMO, *options], capture_output=True, check=False, text=True)
    assert demo.returncode == 2
    assert complaint in demo.stderr
    assert "Traceback" not in demo.stderr
