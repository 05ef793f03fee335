"""The page as HTTP serves it: complete without JavaScript, live by a stream of events, and harmless."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any

import httpx
import msgspec
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer.config.settings import Settings
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.fleet.registry import NodeInfo, Registry
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.history import Healed, Recent
from peekaping_producer.redisdb.keys import DUE, LEASE, NODE, NODES
from peekaping_producer.schedule.pause import Pauses
from peekaping_producer.timing import Timing
from peekaping_producer.web import live, server
from support.asynq_states import put_active, put_pending
from support.databases import (
    CREATED_AT,
    Database,
    PostgresDatabase,
    SqliteDatabase,
    heartbeat_row,
    monitor_row,
    proxy_row,
)
from support.http import Client, client_of
from support.nodes import LONG_S
from support.postgres import Postgres
from support.producer import InProcess, producing
from support.server_process import free_port
from support.waiting import until

QUICK = Timing(figures_kept_s=0.05, heartbeat_every_s=0.2, turns_reported_every_s=0.05)
EVENTS = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"
HOSTILE = "<script>alert(1)</script>"
SECRETS = ("hunter2", "s3cret-token", "corporate-proxy", "https://user:")


def served_by(database: Database, redis_port: int) -> Settings:
    """Return the settings of a node with a page."""
    return database.settings(redis_host=HOST, redis_port=redis_port, producer_http_port=free_port())


@asynccontextmanager
async def serving(settings: Settings, timing: Timing = QUICK) -> AsyncIterator[tuple[InProcess, Client]]:
    """Run a node, and connect to it."""
    assert settings.producer_http_port is not None
    async with producing(settings, timing) as producer, client_of(settings.producer_http_port) as client:
        yield producer, client


@pytest.fixture
def settings(empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis) -> Settings:
    return served_by(empty_sqlite_db, redis_server.port)


class _Text(HTMLParser):
    """The text of a page, without its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def text_of(html: str) -> str:
    parser = _Text()
    parser.feed(html)
    return " ".join(" ".join(parser.parts).split())


async def until_shown(client: Client, words: str, path: str = "/") -> str:
    """Wait until a page shows some words; return its HTML."""
    html = ""

    async def shown() -> bool:
        nonlocal html
        html = (await client.get(path)).text
        return words in text_of(html)

    await until(shown, lambda: f"{words!r} in {text_of(html)}")
    return html


@asynccontextmanager
async def streaming(settings: Settings) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    """Return the events of a page: name and data."""

    async def events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, Any]]:
        name = ""
        async for line in lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, msgspec.json.decode(line.removeprefix("data: "))

    base = f"http://{HOST}:{settings.producer_http_port}"
    async with (
        httpx.AsyncClient(base_url=base, trust_env=False, verify=False, timeout=20) as client,
        client.stream("GET", "/events") as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        yield events(stream.aiter_lines())


async def is_accepted(settings: Settings) -> bool:
    """Return whether one more stream is accepted; it is closed at once."""
    reader, writer = await asyncio.open_connection(HOST, settings.producer_http_port)
    writer.write(EVENTS)
    status = await reader.readline()
    writer.close()
    return status.startswith(b"HTTP/1.1 200 ")


# --- what it shows


async def test_the_page_is_complete_without_javascript(
    settings: Settings, empty_sqlite_db: SqliteDatabase, redis: Redis
) -> None:
    shop, bad = monitor_row(name="Shop", interval=3600), monitor_row(name="Broken row", interval=0)
    await empty_sqlite_db.insert("monitors", shop, bad)
    async with serving(settings) as (producer, client):
        await producer.until_logged("sweep finished")
        html = await until_shown(client, "1 monitor is invalid, and not checked")
        text = text_of(await until_shown(client, "Broken row"))
    for words in (
        "No worker takes checks from the queue",
        "Start Peekaping's workers.",
        "Runbook: PeekapingProducerNoWorker",
        "interval is 0",
        "leads",
        "Shop",
        "1 monitor in the schedule, 0 being handled; slots are spread.",
        "Few checks : ",
    ):
        assert words in text, words
    assert f'href="/monitors/{bad["id"]}"' in html
    assert html.count("<h1") == 1
    assert '<html lang="en">' in html


async def test_the_fleet_the_queue_and_the_monitors_that_need_attention_are_shown(
    settings: Settings, empty_sqlite_db: SqliteDatabase, redis: Redis
) -> None:
    late, healed = monitor_row(name="Late shop", interval=3600), monitor_row(name="Healed shop", interval=3600)
    await empty_sqlite_db.insert("monitors", late, healed)
    other = NodeInfo(
        "host-9-n9",
        version="9.8.7",
        database_problem="connection refused",
        checks_from_cache=3,
        recent=Recent(12.5, 4, 71, healed=[Healed(healed["id"], "2026-01-02T03:04:05Z", "healed_orphaned")]),
    )
    await put_pending(redis, MonitorId(healed["id"]), listed=True)
    await put_active(redis, MonitorId(late["id"]), lease_s=60)
    async with serving(settings, replace(QUICK, reclaim_every_s=LONG_S)) as (producer, client):
        await producer.until_logged("sweep finished")
        await Registry(redis, Timing()).register(other)
        # Its claim has expired, and nobody puts it back.
        seconds, _ = await redis.time()
        await redis.zrem(DUE, late["id"])
        await redis.zadd(LEASE, {late["id"]: (seconds - 12) * 1000 + 1})
        text = text_of(await until_shown(client, "Late shop"))
        await until_shown(client, "its earlier task was orphaned, and was replaced")
    assert "host-9-n9 9.8.7 follows 12.5 4 ms 71 ms unavailable connection refused; 3 checks from the cache" in text
    assert "Healed shop" in text
    assert re.search(r"Pending 1 Running 1 Workers 0 Longest wait \d+ d", text), text


async def test_a_pause_is_shown_on_every_page(settings: Settings, empty_sqlite_db: SqliteDatabase) -> None:
    shop = monitor_row(name="Shop", interval=3600)
    await empty_sqlite_db.insert("monitors", shop)
    async with serving(settings) as (producer, client):
        await producer.until_logged("sweep finished")
        for path in ("/monitors", f"/monitors/{shop['id']}"):
            assert "paused" not in (await client.get(path)).text
        redis = Redis(host=HOST, port=settings.redis_port)
        async with redis:
            await Pauses(redis, 5).begin(600_000, "a new database", "ops@host")
            await producer.until_logged("checks paused")
            for path in ("/", "/monitors", "/monitors?q=shop", f"/monitors/{shop['id']}"):
                await client.until_text(path, "All checks are paused until")
            await Pauses(redis, 5).end()


async def test_while_redis_is_unavailable_the_page_says_so_and_shows_what_was_read_last(
    empty_sqlite_db: SqliteDatabase, own_redis_server: RedisServer
) -> None:
    await empty_sqlite_db.insert("monitors", monitor_row(name="Shop", interval=3600))
    own_redis_server.pause()
    async with serving(served_by(empty_sqlite_db, own_redis_server.port), replace(QUICK, redis_timeout_s=0.5)) as (
        producer,
        client,
    ):
        await until_shown(client, "Redis is unavailable, so this node checks nothing")
        own_redis_server.resume()
        await until_shown(client, "1 monitor in the schedule")
        own_redis_server.pause()
        await producer.until_logged("redis unavailable", len(producer.logged("redis unavailable")) + 1)
        text = text_of(await until_shown(client, "Redis is unavailable, so this node checks nothing"))
        assert "1 monitor in the schedule" in text
        assert "Redis unavailable" in text
        own_redis_server.resume()
        await until_shown(client, "No worker takes checks")


async def test_a_monitors_page_explains_it(settings: Settings, empty_sqlite_db: SqliteDatabase) -> None:
    shop, idle = monitor_row(name="Shop", interval=3600), monitor_row(name="Idle", active=False)
    beats = [heartbeat_row(shop["id"], status=0), heartbeat_row(shop["id"], ping=123)]
    await empty_sqlite_db.insert("monitors", shop, idle)
    await empty_sqlite_db.insert("heartbeats", *beats)
    async with serving(settings) as (producer, client):
        await producer.until_logged("sweep finished")
        html = await until_shown(client, "It is queued, but no worker takes checks", f"/monitors/{shop['id']}")
        text = text_of(html)
        for words in ("Interval 1 h", "due in", "none in the queue", "up", "down", "123 ms", "past", "next"):
            assert words in text, words
        assert html.count("<time") == 6 + 2
        assert "NOT ACTIVE, so it is not checked" in text_of((await client.get(f"/monitors/{idle['id']}")).text)
        unknown = await client.get("/monitors/11111111-1111-4111-8111-111111111111")
        assert "the database has no such monitor" in text_of(unknown.text)
        assert (await client.get("/monitors/nonsense")).status_code == 404


async def test_monitors_are_found_by_name_and_id(settings: Settings, empty_sqlite_db: SqliteDatabase) -> None:
    rows = [monitor_row(name=name, interval=3600) for name in ("Shop", "Workshop", "Blog")]
    await empty_sqlite_db.insert("monitors", *rows, *(monitor_row(name="Same", active=False) for _ in range(60)))
    async with serving(settings) as (producer, client):
        await producer.until_logged("sweep finished")
        text = text_of((await client.get("/monitors?q=SHOP")).text)
        assert "Shop" in text
        assert "Workshop" in text
        assert "Blog" not in text
        assert "There may be more than these 50" in text_of((await client.get("/monitors?q=same")).text)
        assert "contains this text" in text_of((await client.get("/monitors?q=none")).text)
        assert (await client.get("/monitors")).status_code == 200
        answer = await client.get(f"/monitors?q=%20{rows[0]['id'].upper()}")
        assert (answer.status_code, answer.headers["location"]) == (307, f"/monitors/{rows[0]['id']}")


async def test_without_the_database_the_cache_is_searched_and_a_monitor_still_explained(
    own_db: PostgresDatabase, own_postgres_server: Postgres, redis_server: RedisServer, redis: Redis
) -> None:
    shop = monitor_row(name="Shop", interval=1)
    await own_db.insert("monitors", shop)
    async with serving(served_by(own_db, redis_server.port)) as (producer, client):
        await producer.until_logged("batches settled", 2)
        own_postgres_server.pause()
        await producer.until_logged("database unavailable")
        await until_shown(client, "The database is unavailable")
        text = text_of((await client.get("/monitors?q=sho")).text)
        assert "The database cannot be searched" in text
        assert "Shop" in text
        text = text_of((await client.get(f"/monitors/{shop['id']}")).text)
        assert "Cannot be read: " in text
        assert "Not known: the database does not answer." in text
        own_postgres_server.resume()
        await producer.until_logged("database recovered")
        await until_shown(client, "Interval 1 s", f"/monitors/{shop['id']}")


# --- what it never shows


async def test_names_are_escaped_and_no_secret_is_shown(
    settings: Settings, empty_sqlite_db: SqliteDatabase, redis: Redis
) -> None:
    proxy = proxy_row(host="corporate-proxy.example", auth=True, username="proxy-user", password="hunter2")
    row = monitor_row(
        name=HOSTILE,
        type='"><b>',
        interval=3600,
        config='{"url": "https://user:hunter2@example.org"}',
        push_token="s3cret-token",
        proxy_id=proxy["id"],
    )
    invalid = monitor_row(name=HOSTILE, interval=0)
    await empty_sqlite_db.insert("proxies", proxy)
    await empty_sqlite_db.insert("monitors", row, invalid)
    await empty_sqlite_db.insert("heartbeats", heartbeat_row(row["id"], msg="hunter2 was refused", time=CREATED_AT))
    async with serving(settings) as (producer, client):
        await producer.until_logged("sweep finished")
        await redis.zadd(DUE, {HOSTILE: 1})
        pages = [
            await until_shown(client, f"Next checks {HOSTILE}"),
            (await client.get(f"/monitors?q={HOSTILE}")).text,
            (await client.get("/monitors?q=%22%3E%3Cscript%3E")).text,
            await until_shown(client, "Through a proxy yes", f"/monitors/{row['id']}"),
            (await client.get(f"/monitors/{HOSTILE.replace('/', '')}")).text,
        ]
        async with streaming(settings) as events:
            async for name, data in events:
                if name == "parts":
                    pages += data.values()
                    break
    assert sum(HOSTILE in text_of(page) for page in pages) >= 4
    for page in pages:
        parser = _Text()
        parser.feed(page)
        assert "b" not in parser.tags
        assert not re.search(r"<script(?! src=\"/static/)", page)
        assert not [secret for secret in SECRETS if secret in page]


async def test_garbage_in_redis_breaks_no_page(settings: Settings, redis: Redis) -> None:
    """Nor does the record of a node of another version."""
    other = {"id": "other-1-n1", "unknown": [1], "recent": {"healed": [{"monitor_id": "\n", "at": "", "outcome": ""}]}}
    async with serving(settings) as (producer, client):
        await producer.until_logged("no active monitor found")
        await redis.zadd(DUE, {b"\xff": float("-inf"), b"later": float("inf"), b"/../": 1e300})
        await redis.zadd(NODES, {b"other-1-n1": 2e12, b"\xfe": float("inf")})
        await redis.set(f"{NODE}other-1-n1", msgspec.json.encode(other))
        await until_shown(client, "other-1-n1")
        await until_shown(client, "later more than 30 years")
        assert (await client.get("/monitors/%FF")).status_code == 404


async def test_a_browser_may_load_nothing_but_our_files(settings: Settings) -> None:
    async with serving(settings) as (producer, client):
        await producer.until_logged("leadership taken")
        for path in ("/", "/monitors", "/monitors/none", "/metrics", "/nothing", "/static/page.js"):
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
        html = (await client.get("/")).text
        assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:|https?://", html)
        for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', html):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
            plain = await client.get(path.partition("?")[0])
            assert plain.headers["cache-control"] == "no-cache"
            assert (await client.get(path, if_none_match=plain.headers["etag"])).status_code == 304
        for path in ("/static/none.css", "/static/../server.py", "/static/%2e%2e/server.py", "/static/uplot/LICENSE"):
            assert (await client.get(path)).status_code == 404


# --- live


async def test_a_stream_brings_what_changes(settings: Settings, empty_sqlite_db: SqliteDatabase, redis: Redis) -> None:
    await empty_sqlite_db.insert("monitors", monitor_row(name="Shop", interval=3600))
    async with serving(settings) as (producer, _client):
        await producer.until_logged("sweep finished")
        async with streaming(settings) as events:
            names: set[str] = set()
            parts: dict[str, str] = {}
            async for name, data in events:
                names.add(name)
                if name == "parts":
                    parts |= data
                    if len(names) == 2:
                        break
            assert names == {"hour", "parts"}
            assert "1 monitor in the schedule" in text_of(parts["queue"])
            await redis.zadd(DUE, {"11111111-1111-4111-8111-111111111111": 2e12})
            async for name, data in events:
                if name == "parts":
                    assert "fleet" not in data or data["fleet"] != parts["fleet"]
                    if "2 monitors in the schedule" in text_of(data.get("queue", "")):
                        break


async def test_snapshots_are_taken_once_a_second_for_all_who_look(
    settings: Settings, redis_server: RedisServer, redis: Redis
) -> None:
    async def reads() -> int:
        return int((await redis.info("commandstats"))["cmdstat_zcount"]["calls"])

    async with serving(settings, replace(QUICK, figures_kept_s=3600)) as (producer, client):
        await producer.until_logged("leadership taken")
        await client.get("/")
        before = await reads()
        pages = await asyncio.gather(*(client.get("/") for _ in range(30)))
        assert len({page.text for page in pages}) == 1
        assert await reads() == before


async def test_streams_are_bounded_and_end_at_once_with_the_node(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_READERS", 3)
    monkeypatch.setattr(server, "REQUEST_WITHIN_S", 0.5)
    async with serving(settings) as (producer, _client):
        streams = [await asyncio.open_connection(HOST, settings.producer_http_port) for _ in range(3)]
        for _, writer in streams:
            writer.write(EVENTS)
        heads = [await reader.readuntil(b"event: ") for reader, _ in streams]
        assert all(head.startswith(b"HTTP/1.1 200 ") for head in heads)
        assert not await is_accepted(settings)
        # Longer than a request may take: a stream is no request that is not completed.
        for reader, _ in streams:
            for _ in range(15):
                await reader.readuntil(b"event: parts")
        producer.stop.set()
        for reader, writer in streams:
            async with asyncio.timeout(5):
                rest = await reader.read()
            assert rest.endswith(b"0\r\n\r\n")
            writer.close()


async def test_a_reader_that_takes_nothing_is_disconnected_and_checks_go_on(
    settings: Settings, empty_sqlite_db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TAKEN_WITHIN_S", 0.3)
    monkeypatch.setattr(live, "MOST_READERS", 1)
    listener = server._listener

    def with_small_buffers(host: str, port: int) -> socket.socket:
        listening = listener(host, port)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return listening

    monkeypatch.setattr(server, "_listener", with_small_buffers)
    await empty_sqlite_db.insert("monitors", *(monitor_row(name="x" * 100, interval=1) for _ in range(20)))
    async with serving(settings, replace(QUICK, figures_kept_s=0.001)) as (producer, _client):
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((HOST, settings.producer_http_port))
            slow.sendall(EVENTS)
            settled = len(producer.logged("batches settled"))

            assert not await is_accepted(settings)
            await until(lambda: is_accepted(settings), "there is room for another reader")
            await producer.until_logged("batches settled", settled + 2)
