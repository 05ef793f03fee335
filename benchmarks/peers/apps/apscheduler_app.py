"""APScheduler with its job store in Redis. It runs functions by itself: here each puts a task into a list."""

import os
from datetime import UTC, datetime

from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.schedulers.blocking import BlockingScheduler
from redis import Redis

EVERY_S = 3_600
_redis = Redis.from_url(os.environ["BENCH_REDIS"])


def queue(payload: str) -> None:
    """Put a task into the list."""
    _redis.lpush("tasks", payload)


def main() -> None:
    """Add entries that are all due at the same instant, and run."""
    due = datetime.fromtimestamp(float(os.environ["BENCH_DUE"]), UTC)
    payload = "x" * int(os.environ["BENCH_BYTES"])
    store = RedisJobStore(host=os.environ["BENCH_HOST"], port=int(os.environ["BENCH_PORT"]))
    # By default it leaves out what is more than a second late.
    scheduler = BlockingScheduler(
        jobstores={"default": store}, job_defaults={"misfire_grace_time": None, "coalesce": True}, timezone=UTC
    )
    for _ in range(int(os.environ["BENCH_ENTRIES"])):
        scheduler.add_job("apscheduler_app:queue", "interval", [payload], seconds=EVERY_S, next_run_time=due)
    scheduler.add_listener(lambda _event: _redis.set("ready", 1), 1)
    scheduler.start()


if __name__ == "__main__":
    main()
