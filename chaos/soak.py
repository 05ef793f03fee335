"""Soak: many monitors and slow chaos for hours, while memory, descriptors, tasks and keys are watched."""

import os
import random
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil
import redis
from msgspec import Struct

from chaos.actions import Actions
from chaos.plan import NODES, SLOW_CHAOS, Fault
from chaos.stage import Stage
from chaos.worker import read_ledger
from peekaping_producer.asynq import keys as asynq
from peekaping_producer.demo.clock import now_ms

MINUTES: Final = 120.0
MONITORS: Final = 20_000
PERIOD_S: Final = 60
_FAULT_EVERY_S: Final = (40.0, 120.0)
_FAULT_LASTS_S: Final = (2.0, 10.0)
_SAMPLES: Final = 240
_WARM_UP: Final = 0.25
"""This share of the run is not judged: caches and pools fill."""
_NOISE: Final = 3.0
"""Noise does not explain a slope of more standard errors than this."""
_GROWTH: Final = 0.02
_GROWTH_LEAST: Final = 5.0
"""Growth by less than this share, or by fewer than this many (megabytes, descriptors …), is flat whatever the noise."""


class Series(Struct, frozen=True):
    """One figure over time: (seconds, value)."""

    name: str
    unit: str
    points: tuple[tuple[float, float], ...]

    @property
    def slope(self) -> tuple[float, float]:
        """How much it grows in an hour, and the standard error of that."""
        hours, values = [at_s / 3600 for at_s, _ in self.points], [value for _, value in self.points]
        fit = statistics.linear_regression(hours, values)
        rest = [value - fit.slope * at - fit.intercept for at, value in zip(hours, values, strict=True)]
        spread = sum((at - statistics.fmean(hours)) ** 2 for at in hours)
        error = (sum(one * one for one in rest) / max(1, len(rest) - 2) / spread) ** 0.5
        return fit.slope, error

    @property
    def grows(self) -> bool:
        """Whether it grows more than noise explains."""
        slope, error = self.slope
        hours = (self.points[-1][0] - self.points[0][0]) / 3600
        mean = statistics.fmean(value for _, value in self.points)
        return slope > _NOISE * error and slope * hours > max(_GROWTH * mean, _GROWTH_LEAST)

    def __str__(self) -> str:
        """Say how it went."""
        slope, error = self.slope
        values = [value for _, value in self.points]
        verdict = "grows" if self.grows else "flat"
        return (
            f"{self.name:24} {values[0]:>12,.1f} → {values[-1]:>12,.1f} {self.unit:6} "
            f"slope {slope:+10,.1f} ± {error:,.1f} {self.unit}/h  {verdict}"
        )


class Soak(Struct, frozen=True):
    """What a soak has shown."""

    lines: tuple[str, ...]
    failures: tuple[str, ...]
    series: tuple[Series, ...]


def run_soak(database: str, seed: int, minutes: float, monitors: int, folder: Path) -> Soak:
    """Watch a fleet for this long."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with Stage(database, folder, folder.parent.resolve(), for_hours=True) as stage:
        stage.editor.fill(monitors, (PERIOD_S,))
        stage.begin(observe=False)
        log = folder.joinpath("faults.log").open("a")
        actions = Actions(stage, lambda line: print(line, file=log, flush=True))
        watch = _Watch(stage)
        faults = _carry_out(stage, actions, watch, random.Random(seed), minutes * 60)
        log.close()
        return watch.judged(faults, minutes, monitors)


def _carry_out(stage: Stage, actions: Actions, watch: "_Watch", chance: random.Random, seconds: float) -> int:
    begun_s, faults = time.monotonic(), 0
    every_s = max(2.0, seconds / _SAMPLES)
    sample_s, fault_s, lasting = 0.0, chance.uniform(*_FAULT_EVERY_S) / 2, None
    while (at_s := time.monotonic() - begun_s) < seconds:
        stage.watch()
        if lasting is not None and at_s >= fault_s:
            actions.end(lasting)
            lasting, fault_s = None, at_s + chance.uniform(*_FAULT_EVERY_S)
        elif lasting is None and at_s >= fault_s:
            lasting = Fault(chance.choice(SLOW_CHAOS), at_s, chance.uniform(*_FAULT_LASTS_S), chance.randrange(NODES))
            actions.begin(lasting)
            faults, fault_s = faults + 1, at_s + lasting.lasts_s
        if at_s >= sample_s and lasting is None:
            watch.sample(at_s)
            sample_s = at_s + every_s
        time.sleep(0.1)
    if lasting is not None:
        actions.end(lasting)
    return faults


class _Watch:
    """The samples of a soak."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._points: dict[tuple[str, str], list[tuple[float, float]]] = {}
        self._last_ms: dict[str, int] = {}
        self._checks = 0

    def sample(self, at_s: float) -> None:
        """Take a sample; none while Redis does not answer."""
        stage = self._stage
        self._read_ledger()
        try:
            with stage.redis.client() as client:
                memory, keys = client.info("memory"), client.dbsize()
                tasks = client.llen(asynq.PENDING) + client.llen(asynq.ACTIVE)
        except redis.RedisError:
            return
        self._add("Redis: memory used", "MB", at_s, memory["used_memory"] / 1e6)
        self._add("Redis: keys", "", at_s, keys)
        self._add("tasks in the queue", "", at_s, tasks)
        for node in stage.nodes:
            process = psutil.Process(node.pid)
            self._add(f"{node.name}: memory", "MB", at_s, process.memory_info().rss / 1e6)
            self._add(f"{node.name}: descriptors", "", at_s, process.num_fds())

    def _add(self, name: str, unit: str, at_s: float, value: float) -> None:
        self._points.setdefault((name, unit), []).append((at_s, value))

    def _read_ledger(self) -> None:
        """Read what the worker took, and empty the file: in hours it would fill a disk."""
        checks, _ = read_ledger(self._stage.ledger)
        os.truncate(self._stage.ledger, 0)
        self._checks += len(checks)
        self._last_ms.update((check.monitor_id, check.started_ms) for check in checks)

    def judged(self, faults: int, minutes: float, monitors: int) -> Soak:
        """Judge the samples that were taken after the warm-up."""
        self._read_ledger()
        series = [Series(name, unit, _warm(points, minutes * 60)) for (name, unit), points in self._points.items()]
        since_ms = now_ms() - 3 * PERIOD_S * 1000
        lost = [id_ for id_ in self._stage.editor.ids if self._last_ms.get(id_, 0) < since_ms]
        failures = [f"{one.name} grows" for one in series if one.grows]
        if minutes * 60 > 4 * PERIOD_S and lost:
            failures.append(f"{len(lost)} monitors were not checked for 3 periods at the end, for example {lost[0]}")
        lines = (
            f"{monitors:,} monitors, every {PERIOD_S} s, {minutes:g} minutes, {faults} faults, {self._checks:,} checks",
            f"(the first {_WARM_UP:.0%} is warm-up)",
            *map(str, series),
        )
        return Soak(lines, (*failures, *self._stage.node_problems()), tuple(series))


def _warm(points: Sequence[tuple[float, float]], seconds: float) -> tuple[tuple[float, float], ...]:
    return tuple(point for point in points if point[0] >= seconds * _WARM_UP)
