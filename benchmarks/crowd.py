"""Clients of a node's HTTP server: `python -m benchmarks.crowd PORT`, until standard input ends.

They use bare sockets, so that they take little of the cores that they share with the producer.
"""

import asyncio
import sys
import time

HOST = "127.0.0.1"
SCRAPERS = 100
SCRAPE_EVERY_S = 15.0
"""How often most installations of Prometheus scrape."""
PAGES = 50
EVENTS = "/events"
"""What an open page listens to."""
_OK = b" 200 "


async def run(port: int) -> None:
    """Connect everybody, say so, and go on until standard input ends. Raises RuntimeError if an answer is not 200."""
    opened = asyncio.Barrier(PAGES + 1)
    async with asyncio.TaskGroup() as clients:
        tasks = [clients.create_task(_scraper(port, number)) for number in range(SCRAPERS)]
        tasks += [clients.create_task(_page(port, opened)) for _ in range(PAGES)]
        await opened.wait()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()


async def _scraper(port: int, number: int) -> None:
    await asyncio.sleep(number * SCRAPE_EVERY_S / SCRAPERS)
    while True:
        began_s = time.monotonic()
        _check(await _fetched(port, "/metrics"))
        await asyncio.sleep(SCRAPE_EVERY_S - (time.monotonic() - began_s))


async def _page(port: int, opened: asyncio.Barrier) -> None:
    """Open the page and listen to its events."""
    _check(await _fetched(port, "/"))
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(_request(EVENTS))
    _check(await reader.readline())
    await opened.wait()
    while await reader.read(1 << 16):
        pass
    raise RuntimeError("a page lost its events")


async def _fetched(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(_request(path, "close"))
        return await reader.read()
    finally:
        writer.close()


def _request(path: str, connection: str = "keep-alive") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: {connection}\r\n\r\n".encode()


def _check(answer: bytes) -> None:
    if _OK not in answer.partition(b"\r\n")[0]:
        raise RuntimeError(answer[:200])


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1])))
