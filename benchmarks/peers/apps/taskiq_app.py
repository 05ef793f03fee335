"""taskiq: run as a program, it adds the entries; `taskiq scheduler` finds the scheduler here."""

import asyncio
import os

from taskiq import TaskiqScheduler
from taskiq_redis import ListQueueBroker, ListRedisScheduleSource

_url = os.environ["BENCH_REDIS"]
broker = ListQueueBroker(_url)
source = ListRedisScheduleSource(_url)
scheduler = TaskiqScheduler(broker, [source])


async def check(payload: str) -> None:
    """Stand for the work: no worker runs."""


task = broker.register_task(check, "check")


async def add_entries() -> None:
    """Add entries that are all due at the first turn of the scheduler, and then again and again."""
    await source.startup()
    payload = "x" * int(os.environ["BENCH_BYTES"])
    for _ in range(int(os.environ["BENCH_ENTRIES"])):
        await task.schedule_by_interval(source, int(os.environ["BENCH_EVERY_S"]), payload)
    await source.shutdown()


if __name__ == "__main__":
    asyncio.run(add_entries())
