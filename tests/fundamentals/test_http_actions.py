"""What can be changed over HTTP: only with the token, from the page itself, and not too often; all of it is logged."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys as asynq
from peekaping_producer.config.secret import Secret
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.redisdb.keys import DUE, PAUSE
from peekaping_producer.timing import Timing
from peekaping_producer.web import permission
from peekaping_producer.web.actions import MESSAGES
from peekaping_producer.web.permission import Permission
from support.databases import SqliteDatabase, monitor_row, new_id
from support.docs import blocks
from support.http import Client, client_of
from support.log_capture import Line
from support.producer import InProcess, producing
from support.programs import needed
from support.server_process import free_port
from support.shell import MONITOR, Shell
from support.waiting import until

TOKEN = "hush-the-token-of-this-test"
QUICK = Timing(figures_kept_s=0, turns_reported_every_s=0.05, claim_wait_s=0.2, alive_within_s=0.8, redis_timeout_s=1)
ACTIONS = ("run-now", "pause", "resume")
PAUSE_FORM = {"token": TOKEN, "for": "10m", "reason": "a new database"}
RUN_FORM = {"token": TOKEN, "monitor_id": MONITOR}
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


class Served:
    """A node with HTTP, and a client of it."""

    def __init__(self, producer: InProcess, client: Client, port: int) -> None:
        self.producer = producer
        self.client = client
        self.port = port

    def logged(self) -> list[Line]:
        """Return what was logged about actions."""
        return [line for line in self.producer.lines if line["event"] in {"action done", "action refused"}]


@asynccontextmanager
async def serving(
    database: SqliteDatabase, redis_port: int, token: str | Secret | None = TOKEN
) -> AsyncIterator[Served]:
    port = free_port()
    settings = database.settings(
        redis_host=HOST, redis_port=redis_port, producer_http_port=port, producer_http_token=token
    )
    async with producing(settings, QUICK) as producer, client_of(port) as client:
        await producer.until_logged("leadership taken")
        yield Served(producer, client, port)
    assert "hush" not in str(producer.lines)
    assert [line for line in producer.lines if line["event"].startswith("library")] == []


@pytest.fixture
async def database(empty_sqlite_db: SqliteDatabase, redis: Redis) -> SqliteDatabase:
    """Hold one monitor that is due once a day."""
    await empty_sqlite_db.insert("monitors", monitor_row(id=MONITOR, name="Shop", interval=86_400))
    return empty_sqlite_db


# --- what is done


async def test_a_check_is_made_now(database: SqliteDatabase, redis_server: RedisServer, redis: Redis) -> None:
    async with serving(database, redis_server.port) as node:
        await node.producer.until_logged("sweep finished")
        answer = await node.client.post("/actions/run-now", RUN_FORM)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/monitors/{MONITOR}?done=due")
        await until(lambda: redis.exists(asynq.PENDING), "its task is in the queue")
        form = {"monitor_id": f" {MONITOR.upper()} "}
        answer = await node.client.post("/actions/run-now", form, accept=JSON, authorization=f"bearer {TOKEN}")
        (monitor,) = answer.json()["monitors"]
        assert (answer.status_code, monitor["monitor_id"], monitor["due"]) == (200, MONITOR, True)
        first, _ = node.logged()
    assert (first["event"], first["action"], first["client"]) == ("action done", "run-now", HOST)
    assert (first["what"], first["outcome"]) == (MONITOR, "due")


async def test_a_monitor_that_is_not_checked_stays_as_it_is(
    database: SqliteDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    await database.update("monitors", MONITOR, active=False)
    async with serving(database, redis_server.port) as node:
        answer = await node.client.post("/actions/run-now", RUN_FORM)
        assert answer.headers["location"] == f"/monitors/{MONITOR}?done=not-due"
        answer = await node.client.post("/actions/run-now", RUN_FORM | {"monitor_id": new_id()}, accept=JSON)
        assert answer.json()["monitors"][0]["result"] == "unknown, the database has no such monitor"
    assert not await redis.exists(DUE)


async def test_the_command_of_the_docs_pauses_checks(
    database: SqliteDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    curl = needed("curl")
    (command,) = [block.text for block in blocks() if block.language == "sh" and "/actions/pause" in block.text]
    async with serving(database, redis_server.port) as node:
        command = command.replace("curl ", f"{curl} --silent --fail ").replace("127.0.0.1:8035", f"{HOST}:{node.port}")
        ended = await asyncio.to_thread(
            subprocess.run, ["sh", "-c", command], env={"TOKEN": TOKEN}, capture_output=True, text=True, check=True
        )
        assert json.loads(ended.stdout)["pause"]["reason"] == "a new database"
        await node.producer.until_logged("checks paused")


async def test_checks_are_paused_and_go_on(
    database: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    """All the while the node is alive, though it claims nothing for longer than a node may be frozen."""
    folder = tmp_path / "empty"
    folder.mkdir()
    async with serving(database, redis_server.port) as node:
        answer = await node.client.post("/actions/pause", PAUSE_FORM)
        assert (answer.status_code, answer.headers["location"]) == (303, "/?done=paused")
        assert (await node.producer.until_logged("checks paused"))["by"] == f"{HOST} (HTTP)"
        (line,) = node.logged()
        assert (line["action"], line["outcome"]) == ("pause", "paused")
        assert line["what"].endswith(", because: a new database")
        assert await node.client.sample("paused") == 1
        assert ((await node.client.sample("paused_until_timestamp_seconds")) or 0) > time.time()
        shown = await Shell(folder, REDIS_PORT=redis_server.port).output("status", code=1)
        assert f"by {HOST} (HTTP), because: a new database" in shown
        assert (await node.client.post("/actions/run-now", RUN_FORM)).headers["location"].endswith("?done=due-later")
        ends_s = time.monotonic() + QUICK.alive_within_s * 2
        while time.monotonic() < ends_s:
            assert await node.client.reasons("/livez") == []
            assert await node.client.reasons("/readyz") == []
            await asyncio.sleep(0.05)
        assert not await redis.exists(asynq.PENDING)

        answer = await node.client.post("/actions/resume", {"token": TOKEN}, accept=JSON)
        assert answer.json()["ended"]["reason"] == "a new database"
        await node.producer.until_logged("checks resumed")
        await until(lambda: redis.exists(asynq.PENDING), "what was due is checked")
        assert await node.client.sample("paused") == 0
        assert await node.client.sample("paused_until_timestamp_seconds") == 0
        answer = await node.client.post("/actions/resume", accept=JSON, authorization=f"Bearer {TOKEN}")
        assert answer.json() == {"schema": 1, "ended": None}


async def test_a_browser_is_sent_to_a_page_of_this_server_only(
    database: SqliteDatabase, redis_server: RedisServer
) -> None:
    pages = {
        "/monitors": "/monitors",
        "/monitors/a-b_c.d": "/monitors/a-b_c.d",
        "//elsewhere.example": "/",
        "https://elsewhere.example/": "/",
        "/\\elsewhere.example": "/",
        "/\r\nset-cookie: a=b": "/",
        "/a?b": "/",
        "": "/",
    }
    async with serving(database, redis_server.port) as node:
        for back, page in pages.items():
            answer = await node.client.post("/actions/resume", {"token": TOKEN, "back": back})
            assert answer.headers["location"] == f"{page}?done=resumed"
    assert "resumed" in MESSAGES


# --- what is refused


SAME = {"sec_fetch_site": "same-origin", "origin": "null"}
"""What a browser sends if a proxy has changed `Host`, or the page forbids the referrer."""
REFUSED: list[tuple[str, dict[str, str] | bytes, dict[str, str], int, str]] = [
    ("pause", {**PAUSE_FORM, "token": ""}, {}, 401, "the request has no token"),
    ("pause", {**PAUSE_FORM, "token": TOKEN[:-1]}, {}, 401, "the token is wrong"),
    ("pause", {**PAUSE_FORM, "token": "hüsh-hüsh-hüsh-hüsh"}, {}, 401, "the token is wrong"),
    ("pause", PAUSE_FORM, {"authorization": "Bearer wrong"}, 401, "the token is wrong"),
    ("pause", {**PAUSE_FORM, "token": ""}, {"authorization": f"Basic {TOKEN}"}, 401, "the request has no token"),
    ("pause", PAUSE_FORM, {"origin": "http://elsewhere.example"}, 403, "the request comes from a page of another"),
    ("pause", PAUSE_FORM, {"origin": "null"}, 403, "the request comes from a page of another origin"),
    ("pause", PAUSE_FORM, {"sec_fetch_site": "cross-site"}, 403, "the request comes from a page of another origin"),
    ("pause", PAUSE_FORM, {"sec_fetch_site": "same-site"}, 403, "the request comes from a page of another origin"),
    ("pause", b"{}", {"content_type": JSON}, 415, f"the body must be a form: {FORM}"),
    ("pause", b"a=" + b"x" * 5_000, {"content_type": FORM}, 413, "the body is longer than 4,096 bytes"),
    ("pause", b"&".join([b"a=b"] * 20), {"content_type": FORM}, 400, "the form can't be understood"),
    ("pause", b"a=\xff", {"content_type": FORM}, 400, "the form can't be understood"),
    ("pause", {"token": TOKEN, "reason": "x"}, {}, 400, "'' is not a valid length: write for example 90s, 10m or 2h"),
    ("pause", {**PAUSE_FORM, "for": "25h"}, {}, 400, "'25h' is not a valid length"),
    ("pause", {"token": TOKEN, "for": "1s"}, {}, 400, "the reason must have 1 to 200 characters"),
    ("run-now", {"token": TOKEN}, {}, 400, "the field `monitor_id` must be the id of a monitor"),
    ("run-now", {**RUN_FORM, "monitor_id": "Shop"}, {}, 400, "the field `monitor_id` must be the id of a monitor"),
    ("run-now", {"monitor_id": MONITOR}, {}, 401, "the request has no token"),
    ("resume", {}, {}, 401, "the request has no token"),
    ("nothing", {"token": TOKEN}, {}, 404, ""),
]


async def test_each_refusal_says_why_is_logged_and_changes_nothing(
    database: SqliteDatabase, redis_server: RedisServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permission, "_AT_ONCE", 1_000)
    async with serving(database, redis_server.port) as node:
        await node.producer.until_logged("sweep finished")
        await node.client.post("/actions/pause", PAUSE_FORM)
        before = await redis.dump(PAUSE), await redis.zrange(DUE, 0, -1, withscores=True)
        number = len(node.logged())
        for action, form, headers, status, reason in REFUSED:
            answer = await node.client.post(f"/actions/{action}", form, **headers)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
            assert answer.text.startswith(reason)
            assert "location" not in answer.headers
            if status == 404:
                continue
            line = node.logged()[-1]
            assert (line["event"], line["action"], line["status"]) == ("action refused", action, status)
            assert (line["client"], line["reason"]) == (HOST, answer.text.strip())
            if isinstance(form, dict):
                again = await node.client.post(f"/actions/{action}", form, accept=JSON, **headers)
                assert (again.status_code, again.json()) == (status, {"schema": 1, "error": answer.text.strip()})
                assert ("www-authenticate" in again.headers) == (status == 401)
        for action in ACTIONS:
            assert (await node.client.get(f"/actions/{action}")).status_code == 405
        assert len(node.logged()) > number + 20
        assert before == (await redis.dump(PAUSE), await redis.zrange(DUE, 0, -1, withscores=True))

        own = f"http://{HOST}:{node.port}"
        allowed: list[dict[str, Any]] = [{"origin": own}, {"origin": own.upper()}, SAME, {"sec_fetch_site": "none"}]
        for headers in allowed:
            assert (await node.client.post("/actions/pause", PAUSE_FORM, **headers)).status_code == 303


async def test_without_a_token_of_its_own_a_node_refuses_all(
    database: SqliteDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    async with serving(database, redis_server.port, None) as node:
        for action in ACTIONS:
            answer = await node.client.post(f"/actions/{action}", PAUSE_FORM | RUN_FORM)
            assert answer.status_code == 403
            assert "set PRODUCER_HTTP_TOKEN or PRODUCER_HTTP_TOKEN_FILE" in answer.text
    assert not await redis.exists(PAUSE)


async def test_too_many_requests_are_refused_with_one_line_in_the_log(
    database: SqliteDatabase, redis_server: RedisServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that tries tokens is stopped, even if one of them is the right one."""
    async with serving(database, redis_server.port) as node:
        codes: list[int] = []
        while codes[-2:] != [429, 429]:
            codes.append((await node.client.post("/actions/resume", {"token": f"wrong {len(codes)}"})).status_code)
        assert codes[:10] == [401] * 10
        limited = [line for line in node.logged() if line["status"] == 429]
        assert 1 <= len(limited) < codes.count(429)
        monkeypatch.setattr(permission, "_EVERY_S", 3600.0)
        refused = await node.client.post("/actions/pause", PAUSE_FORM)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        assert not await redis.exists(PAUSE)
        monkeypatch.undo()

        async def allowed() -> bool:
            return (await node.client.post("/actions/pause", PAUSE_FORM)).status_code == 303

        await until(allowed, "there is room for a request again")


def test_the_limit_is_so_many_at_once_and_then_one_every_two_seconds() -> None:
    now_s = 1_000.0
    limit = Permission(None, lambda: now_s)
    assert [limit._within_limit() for _ in range(11)] == [True] * 10 + [False]
    now_s += 2
    assert [limit._within_limit() for _ in range(2)] == [True, False]
    now_s += 3_600
    assert [limit._within_limit() for _ in range(11)] == [True] * 10 + [False]


async def test_a_token_in_a_file_is_read_again_each_time(
    database: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    async with serving(database, redis_server.port, Secret.of_file("PRODUCER_HTTP_TOKEN_FILE", path)) as node:
        post = node.client.post
        assert (await post("/actions/resume", {"token": TOKEN})).status_code == 303
        path.write_text("hush-another-token\n")
        assert (await post("/actions/resume", {"token": TOKEN})).status_code == 401
        assert (await post("/actions/resume", {"token": "hush-another-token"})).status_code == 303
        reasons = {"hush-short": "PRODUCER_HTTP_TOKEN_FILE has fewer than 16 characters", "": "it is empty"}
        for text, reason in reasons.items():
            path.write_text(text)
            answer = await post("/actions/resume", {"token": text or TOKEN})
            assert (answer.status_code, answer.text) == (503, "this node's token can't be read; its log says why\n")
            assert reason in node.logged()[-1]["reason"]


async def test_while_redis_does_not_answer_nothing_is_promised(
    empty_sqlite_db: SqliteDatabase, own_redis_server: RedisServer
) -> None:
    await empty_sqlite_db.insert("monitors", monitor_row(id=MONITOR, interval=86_400))
    async with serving(empty_sqlite_db, own_redis_server.port) as node:
        own_redis_server.pause()
        for action in ACTIONS:
            answer = await node.client.post(f"/actions/{action}", PAUSE_FORM | RUN_FORM)
            assert (answer.status_code, answer.text) == (503, "redis: no answer within 1 s; try again later\n")
        own_redis_server.resume()


async def test_a_client_that_disconnects_leaves_no_traceback(
    database: SqliteDatabase, redis_server: RedisServer
) -> None:
    async with serving(database, redis_server.port) as node:
        _, writer = await asyncio.open_connection(HOST, node.port)
        writer.write(b"POST /actions/pause HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\ntoken=")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        line = await node.producer.until_logged("action refused")
    assert line["reason"] == "the client has sent only a part of the request"
