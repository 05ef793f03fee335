"""Overload: a worker that cannot keep up, for as many periods as an hour of one-minute monitors has, and its recovery.

Only the intervals are shorter than in a real hour: two seconds instead of a minute. Clocks run true.
"""

import re
import shutil
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from chaos.evidence import Check, Evidence, Life, Segment
from chaos.judge import judge
from chaos.stage import Stage
from chaos.worker import read_ledger
from peekaping_producer.asynq import keys as asynq
from peekaping_producer.demo.clock import now_ms

PERIOD_S: Final = 2
PERIODS: Final = 60
_MONITORS: Final = 150
_SLOW: Final = ("-concurrency=1", "-delay=60ms")
"""A fifth of the load: each monitor is checked in every fifth of its slots."""
_FAST: Final = ("-concurrency=20", "-delay=1ms")
_SAMPLE_EVERY_S: Final = 0.5
_DRAINED_WITHIN_S: Final = 20.0
_AFTER_S: Final = 7 * PERIOD_S
_BACK_ON_GRID_MS: Final = 2 * PERIOD_S * 1000
_MORE_MEMORY: Final = 1.05


class Sample(Struct, frozen=True):
    """What Redis held at one moment."""

    pending: int
    listed_twice: int
    tasks: int
    used_bytes: int
    oldest_s: float
    """How long the oldest task has waited, as a node's metrics say."""


class Overload(Struct, frozen=True):
    """What an overload has shown."""

    lines: tuple[str, ...]
    failures: tuple[str, ...]


def run_overload(database: str, folder: Path) -> Overload:
    """Overload the worker, then add a fast one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with Stage(database, folder, folder.parent.resolve()) as stage:
        stage.editor.fill(_MONITORS, (PERIOD_S,))
        stage.begin(worker_flags=_SLOW)
        samples = _sampled(stage, PERIODS * PERIOD_S)
        metrics = _metrics(stage)
        back_ms = now_ms()
        fast = folder / "fast.jsonl"
        stage.add_worker(fast, *_FAST)
        stage.until(lambda: _pending(stage) == 0, "the queue is empty", _DRAINED_WITHIN_S)
        _sampled(stage, _AFTER_S)
        evidence = stage.evidence([])
        fast_checks, unreadable = read_ledger(fast)
        whole = replace(
            evidence,
            checks=tuple(sorted([*evidence.checks, *fast_checks], key=lambda check: check.started_ms)),
            problems=(*evidence.problems, *unreadable),
        )
        troubles = sum(node.events["queue trouble started"] for node in stage.nodes)
    return _judged(samples, metrics, whole, back_ms, troubles)


def _sampled(stage: Stage, seconds: float) -> list[Sample]:
    samples, until_s = [], time.monotonic() + seconds
    while time.monotonic() < until_s:
        stage.watch()
        samples.append(_sample(stage))
        time.sleep(_SAMPLE_EVERY_S)
    return samples


def _sample(stage: Stage) -> Sample:
    with stage.redis.client() as client, client.pipeline(transaction=True) as pipe:
        pipe.lrange(asynq.PENDING, 0, -1)
        pipe.keys(f"{asynq.TASK}*")
        pipe.info("memory")
        pending, tasks, memory = pipe.execute()
    twice = len(pending) - len(set(pending))
    return Sample(len(pending), twice, len(tasks), memory["used_memory"], _oldest_s(stage))


def _pending(stage: Stage) -> int:
    with stage.redis.client() as client:
        return int(client.llen(asynq.PENDING))


def _oldest_s(stage: Stage) -> float:
    return _metrics(stage)["peekaping_producer_queue_oldest_seconds"]


def _metrics(stage: Stage) -> Counter[str]:
    """Return the metrics of all nodes; counters are added up; of the ages of the oldest task, the highest is taken."""
    found: Counter[str] = Counter()
    for node in stage.nodes:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.http_port}/metrics", timeout=5) as reply:
            text = reply.read().decode()
        for name, value in re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE):
            found[name] = max(found[name], float(value)) if "oldest" in name else found[name] + float(value)  # type: ignore[assignment]
    return found


def _judged(samples: list[Sample], metrics: Counter[str], evidence: Evidence, back_ms: int, troubles: int) -> Overload:
    monitors = sum(bool(life.segments) for life in evidence.lives)
    during = [check for check in evidence.checks if check.started_ms < back_ms]
    counts = Counter(check.monitor_id for check in during)
    most, fewest = max(counts.values()), min(counts.values())
    third = len(samples) // 3
    memory = [max(sample.used_bytes for sample in part) for part in (samples[third : 2 * third], samples[2 * third :])]
    stale = sum(check.stale for check in evidence.checks)
    refreshed = metrics['peekaping_producer_checks_total{outcome="refreshed"}']
    missed = metrics['peekaping_producer_missed_total{reason="overload"}']
    oldest_s = max(sample.oldest_s for sample in samples)
    after = judge(_after(evidence, back_ms))
    soon_ms = back_ms + PERIOD_S * 1500
    back = {check.monitor_id for check in evidence.checks if back_ms <= check.started_ms <= soon_ms}
    failures = [
        failure
        for wrong, failure in (
            (any(sample.listed_twice for sample in samples), "a task was in the queue twice"),
            (any(sample.tasks > monitors for sample in samples), "there were more tasks than monitors"),
            (memory[1] > memory[0] * _MORE_MEMORY, f"Redis' memory grew from {memory[0]:,} to {memory[1]:,} bytes"),
            (len(counts) < monitors, f"{monitors - len(counts)} monitors were not checked at all"),
            (most - fewest > 2, f"the oldest did not go first: some were checked {most} times, others {fewest} times"),
            (
                len(back) < monitors,
                f"{monitors - len(back)} monitors were not checked when the workers were back",
            ),
            (stale, f"{stale} tasks were too old for a worker to take them"),
            (not missed, "no metric shows what was missed (missed_total{overload})"),
            (not oldest_s > PERIOD_S, "no metric shows how late they are (queue_oldest_seconds)"),
            (not troubles, "the log does not say that the workers are too slow"),
        )
        if wrong
    ]
    lines = (
        f"{monitors} monitors, every {PERIOD_S} s, for {PERIODS} periods: {len(during)} of {monitors * PERIODS} checks",
        f"tasks in the queue, at most    {max(sample.tasks for sample in samples)}",
        f"Redis' memory, 2nd, last third {memory[0]:,}, {memory[1]:,} bytes",
        f"checks of each monitor         {fewest} to {most}",
        f"oldest task waited, at most    {oldest_s:.1f} s",
        f"refreshed, missed (overload)   {refreshed:.0f}, {missed:.0f}",
        f"after the workers came back    {after.checks} checks, {after.missed.total()} missed, {after.doubled} doubled",
    )
    return Overload(lines, (*failures, *after.failures))


def _after(evidence: Evidence, back_ms: int) -> Evidence:
    """Return what was seen since the workers came back: from soon after that, each slot is expected to be served."""

    def since(life: Life) -> Life:
        segments = [Segment(back_ms, back_ms + _BACK_ON_GRID_MS, PERIOD_S * 1000)] if life.segments else []
        return replace(life, segments=tuple(segments))

    taken = tuple(check for check in evidence.checks if _is_since(check, back_ms))
    return replace(evidence, began_ms=back_ms, checks=taken, lives=tuple(map(since, evidence.lives)))


def _is_since(check: Check, back_ms: int) -> bool:
    return check.started_ms >= back_ms
