"""celery-redbeat: run as a program, it adds the entries; `celery beat` finds the app here."""

import os
from datetime import UTC, datetime, timedelta

from celery import Celery
from celery.schedules import schedule
from redbeat import RedBeatSchedulerEntry

EVERY_S = 3_600

app = Celery("bench", broker=os.environ["BENCH_REDIS"])
app.conf.redbeat_redis_url = os.environ["BENCH_REDIS"]


def add_entries() -> None:
    """Add entries as if each had run once, so that all are due next at the same instant."""
    due = datetime.fromtimestamp(float(os.environ["BENCH_DUE"]), UTC)
    payload = "x" * int(os.environ["BENCH_BYTES"])
    for number in range(int(os.environ["BENCH_ENTRIES"])):
        RedBeatSchedulerEntry(
            f"entry-{number}",
            "bench",
            schedule(run_every=EVERY_S, app=app),
            args=[payload],
            app=app,
            last_run_at=due - timedelta(seconds=EVERY_S),
        ).save()


if __name__ == "__main__":
    add_entries()
