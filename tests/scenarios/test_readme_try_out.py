"""README's ten lines for a Postgres of one's own, run as they are but for ports, folders and shorter waits."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peekaping_producer.demo.redis_server import RedisServer
from support.docs import ROOT, blocks
from support.postgres import Postgres

REDIS_CLI = shutil.which("redis-cli")


@pytest.mark.skipif(REDIS_CLI is None, reason="redis-cli is not installed")
def test_the_try_out_shows_what_readme_says(postgres_server: Postgres, redis_server: RedisServer) -> None:
    (script,) = [block.text for block in blocks() if block.page.name == "README.md" and "createdb" in block.text]
    changes = {
        r"DB_PORT=5432": f"DB_PORT={postgres_server.port}",
        r"REDIS_HOST=": f"REDIS_PORT={redis_server.port} REDIS_HOST=",
        r"redis-cli": f"{REDIS_CLI} -p {redis_server.port}",
        r"\.venv/bin/": shlex.quote(f"{Path(sys.executable).parent}/"),
        r", 20, 16, 0, 20, 0": ", 2, 1, 0, 2, 0",
        r"sleep 25": "sleep 6",
    }
    for old, new in changes.items():
        script, count = re.subn(old, new, script)
        assert count, old
    path = f"{postgres_server.programs}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "PGPORT": str(postgres_server.port), "MODE": "prod"}
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            output, errors = shell.communicate(timeout=60)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
    text = "\n".join(line for line in output.splitlines() if not line.startswith("{"))
    assert "trouble    no worker takes checks from the queue" in text, output + errors
    assert re.search(r"^schedule   100 monitors, ", text, re.MULTILINE)
    assert re.search(r"^queue      100 pending, 0 running, 0 worker processes$", text, re.MULTILINE)
    assert '"event":"producer stopped"' in output
    assert text.endswith("OK"), "Redis was emptied"
    assert errors == ""
