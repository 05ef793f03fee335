"""rq-scheduler: adds the entries; the program `rqscheduler` puts them into the queue."""

import os
from datetime import UTC, datetime

from redis import Redis
from rq_scheduler import Scheduler

EVERY_S = 3_600


def add_entries() -> None:
    """Add entries that are all due at the same instant."""
    scheduler = Scheduler(connection=Redis.from_url(os.environ["BENCH_REDIS"]))
    # rq-scheduler takes times in UTC, without a zone.
    due = datetime.fromtimestamp(float(os.environ["BENCH_DUE"]), UTC).replace(tzinfo=None)
    payload = "x" * int(os.environ["BENCH_BYTES"])
    for _ in range(int(os.environ["BENCH_ENTRIES"])):
        scheduler.schedule(due, "bench.check", args=[payload], interval=EVERY_S)


if __name__ == "__main__":
    add_entries()
