"""Whether the limits were met, by what the worker took and nothing else: arithmetic on instants.

A monitor's *slots* are those of its grid (ARCHITECTURE.md, invariant 1), computed here on its own. After a check, the
next slot is the first one at least half a period later. It is *served* by the first check from then on, unless that
check comes after the following slot: then it is *missed*. Two checks closer than half a period are *doubled*.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Final

from msgspec import Struct

from chaos.evidence import Check, Evidence, Incident, Life, Segment, Span, on_this_clock
from chaos.plan import NOTICED_WITHIN_MS, OF_DATABASE, Kind
from chaos.rules import (
    CLAIM_MS,
    DATABASE_MS,
    NODE_MS,
    REDIS_MS,
    RULES,
    Reason,
    delays_changes,
    rule_of,
)

LATE_MS: Final = 1_000
"""What is later than this is a trace of a fault."""
_LATE_LIMIT_MS: Final = 3_000
"""What no fault explains may be late by this much on a busy machine."""
GONE_WITHIN_MS: Final = 1_000
"""How long after an edit or a deletion a task may still be made of what was before."""
_BEFORE_MS: Final = 1_000
"""A fault also hits what was due this much before it."""
_SAMPLING_MS: Final = 500
"""How exactly the evidence knows when something began and ended."""
_LOST_AFTER_MS: Final = 3_000
_EXCUSED_SHARE: Final = 0.01
"""At most one check, or this share of them, may be missed for a reason that lies with the machine or with asynq."""
_NOBODY: Final = frozenset({Reason.REDIS, Reason.NODES})
_DEATHS: Final = frozenset({Kind.KILL, Kind.KILL_ALL, Kind.TERMINATE, Kind.FREEZE})


class Slot(Struct, frozen=True):
    """A slot that was missed, or served late."""

    monitor_id: str
    at_ms: int
    made_good_ms: int
    """When it was served; for a missed one, the slot itself, as the next one was served."""
    missed: bool
    period_ms: int
    reason: Reason
    incident: Incident | None = None
    """The fault that explains it."""


class Recovery(Struct, frozen=True):
    """How long the traces of one fault were seen."""

    incident: Incident
    missed: int
    late: int
    took_ms: int
    """0: it left no trace."""
    claims_took_ms: int
    """The same for claims that an outage of Redis left behind: their replies were lost, and they expire like others."""


class Verdict(Struct, frozen=True):
    """The judgement of a run."""

    checks: int
    late_ms: tuple[int, ...]
    """From its slot to when the worker took it, of each check, in ascending order."""
    slots: tuple[Slot, ...]
    """Those that were missed or late."""
    doubled: int
    lost: int
    recoveries: tuple[Recovery, ...]
    failures: tuple[str, ...]
    """What breaks a limit, one line each."""

    @property
    def missed(self) -> Counter[Reason]:
        """How many checks were missed, by reason."""
        return Counter(slot.reason for slot in self.slots if slot.missed)


def judge(evidence: Evidence) -> Verdict:
    """Judge a run."""
    return _Judge(evidence).verdict()


def phase_ms(monitor_id: str, period_ms: int) -> int:
    """Return where in its period a monitor's slots are."""
    phase = int.from_bytes(blake2b(monitor_id.encode()).digest()[:8], "big") % period_ms
    return phase if phase % 1000 else phase + 1


class _Judge:
    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._checks: defaultdict[str, list[tuple[int, Check]]] = defaultdict(list)
        for check in evidence.checks:
            at_ms = on_this_clock(check.scheduled_ms, check.started_ms)
            if evidence.began_ms <= at_ms <= evidence.ended_ms:
                self._checks[check.monitor_id].append((at_ms, check))
        for checks in self._checks.values():
            checks.sort(key=lambda one: one[0])
        self._claimed, self._active = _by_monitor(evidence.claimed), _by_monitor(evidence.active)
        self._late_ms: list[int] = []
        self._failures: list[str] = list(evidence.problems)

    def verdict(self) -> Verdict:
        slots = [slot for life in self._evidence.lives for slot in self._slots_of(life)]
        doubled = sum(self._doubled(life) for life in self._evidence.lives)
        lost = sum(self._is_lost(life) for life in self._evidence.lives)
        for life in self._evidence.lives:
            self._check_contents(life)
        unknown = self._checks.keys() - {life.monitor_id for life in self._evidence.lives}
        self._failures += [f"{id_} was checked, and never existed" for id_ in sorted(unknown)]
        recoveries = [self._recovery(incident, slots) for incident in self._evidence.incidents]
        self._check_missed(slots)
        self._check_claims()
        return Verdict(
            sum(map(len, self._checks.values())),
            tuple(sorted(self._late_ms)),
            tuple(slots),
            doubled,
            lost,
            tuple(recoveries),
            tuple(self._failures),
        )

    # --- slots

    def _slots_of(self, life: Life) -> Iterator[Slot]:
        for segment in life.segments:
            yield from self._slots_in(life, segment)

    def _slots_in(self, life: Life, segment: Segment) -> Iterator[Slot]:
        """Yield the slots of one segment that were missed or late."""
        period_ms, phase = segment.period_ms, phase_ms(life.monitor_id, segment.period_ms)

        def slot_from(at_ms: int) -> int:
            return at_ms + (phase - at_ms) % period_ms

        next_ms = slot_from(self._expected_ms(segment))
        for at_ms, check in self._checks_in(life, segment):
            served_ms = at_ms - (at_ms - phase) % period_ms
            for missed_ms in range(next_ms, served_ms, period_ms):
                yield self._missed(life, missed_ms, period_ms)
            if served_ms >= next_ms:
                late_ms = check.started_ms - served_ms
                self._late_ms.append(late_ms)
                if late_ms > LATE_MS:
                    yield self._late(life, served_ms, check.started_ms, period_ms)
            # The next slot is chosen when the claim is settled: before the worker takes the task.
            next_ms = slot_from(max(at_ms, check.started_ms) + period_ms // 2)
        end_ms = min(segment.until_ms, self._evidence.ended_ms) - period_ms // 2
        for missed_ms in range(next_ms, end_ms, period_ms):
            yield self._missed(life, missed_ms, period_ms)

    def _expected_ms(self, segment: Segment) -> int:
        """Return from when on checks are expected: later if a fault kept the change from being noticed."""
        expected_ms = max(segment.expected_ms, self._evidence.began_ms)
        for incident in self._evidence.incidents:
            noticed_ms = incident.ended_ms + NOTICED_WITHIN_MS
            if (
                delays_changes(incident.kind)
                and segment.from_ms > self._evidence.began_ms
                and incident.began_ms <= expected_ms
                and noticed_ms >= segment.from_ms
            ):
                expected_ms = max(expected_ms, noticed_ms)
        return expected_ms

    def _checks_in(self, life: Life, segment: Segment) -> list[tuple[int, Check]]:
        checks = self._checks[life.monitor_id]
        return [one for one in checks if segment.from_ms <= one[0] < segment.until_ms]

    def _missed(self, life: Life, slot_ms: int, period_ms: int) -> Slot:
        reason, incident = self._reason(life, slot_ms, period_ms)
        return Slot(
            life.monitor_id, slot_ms, slot_ms, missed=True, period_ms=period_ms, reason=reason, incident=incident
        )

    def _late(self, life: Life, slot_ms: int, made_good_ms: int, period_ms: int) -> Slot:
        """Describe a late check."""
        reason, incident = self._cause_of_delay(life, slot_ms, made_good_ms)
        return Slot(
            life.monitor_id, slot_ms, made_good_ms, missed=False, period_ms=period_ms, reason=reason, incident=incident
        )

    # --- reasons

    def _reason(self, life: Life, slot_ms: int, period_ms: int) -> tuple[Reason, Incident | None]:
        """Return why a slot was missed, and by which fault."""
        claim = self._left_claimed(life, slot_ms, slot_ms + period_ms)
        if claim:
            return Reason.CLAIM, claim
        if any(
            span.from_ms - _SAMPLING_MS <= slot_ms <= span.until_ms + _SAMPLING_MS
            for span in self._active[life.monitor_id]
        ):
            return Reason.RUNNING, None
        gone = self._last(
            lambda one: (
                rule_of(one.kind).reason in _NOBODY and _covers(one, slot_ms, rule_of(one.kind).recovers_ms or 0)
            )
        )
        if gone:
            return rule_of(gone.kind).reason or Reason.NONE, gone
        without, outage = self._without_database(life, slot_ms, period_ms)
        if outage:
            return without, outage
        stalled = self._stalled_ms(slot_ms, slot_ms + period_ms)
        return (Reason.MACHINE if stalled else Reason.NONE), None

    def _cause_of_delay(self, life: Life, slot_ms: int, made_good_ms: int) -> tuple[Reason, Incident | None]:
        """Return why a check was late: by the fault that began last before it was made good.

        If Redis or all nodes were gone when that fault began, the cause is that they were gone.
        """

        def may_cause(one: Incident) -> bool:
            in_time_ms = one.ended_ms + (rule_of(one.kind).recovers_ms or DATABASE_MS)
            return one.kind in RULES and one.began_ms <= made_good_ms and slot_ms <= in_time_ms

        claim = self._left_claimed(life, slot_ms, made_good_ms)
        if claim:
            return Reason.CLAIM, claim
        last = self._last(may_cause)
        if last:
            cause = self._last(lambda one: may_cause(one) and _nobody_at(one, last.began_ms)) or last
            return rule_of(cause.kind).reason or Reason.NONE, cause
        edited = self._used_old_interval(life, slot_ms)
        return (Reason.OLD_INTERVAL if edited else Reason.NONE), edited

    def _without_database(self, life: Life, slot_ms: int, period_ms: int) -> tuple[Reason, Incident | None]:
        outage = self._last(lambda one: one.kind in OF_DATABASE and _covers(one, slot_ms, DATABASE_MS))
        if outage and life.push:
            return Reason.PUSH, outage
        if outage and self._a_node_was_gone(outage, period_ms):
            return Reason.NOT_CACHED, outage
        return Reason.OLD_INTERVAL, self._used_old_interval(life, slot_ms)

    def _last(self, fits: Callable[[Incident], bool]) -> Incident | None:
        """Return the fault that began last, of those that fit."""
        return next(filter(fits, reversed(self._evidence.incidents)), None)

    def _left_claimed(self, life: Life, slot_ms: int, until_ms: int) -> Incident | None:
        """Return the fault that left a monitor claimed for long, when it was due."""
        for span in self._claimed[life.monitor_id]:
            if span.from_ms <= until_ms and span.until_ms >= slot_ms - _SAMPLING_MS:
                return self._last(
                    lambda one, span=span: (
                        rule_of(one.kind).reason in {Reason.CLAIM, *_NOBODY}  # type: ignore[misc]
                        and one.began_ms - _BEFORE_MS <= span.until_ms
                        # A request that the network delivers late may claim after the fault, for a node that is gone.
                        and one.ended_ms + (0 if rule_of(one.kind).from_its_beginning else _BEFORE_MS) >= span.from_ms
                    )
                )
        return None

    def _used_old_interval(self, life: Life, slot_ms: int) -> Incident | None:
        """Return the outage of the database in which an edited monitor's check before a slot was made."""
        before_ms = max((at_ms for at_ms, _ in self._checks[life.monitor_id] if at_ms < slot_ms), default=None)
        if before_ms is None or not any(self._evidence.began_ms < one.from_ms <= before_ms for one in life.segments):
            return None
        return self._last(lambda one: one.kind in OF_DATABASE and _covers(one, before_ms, DATABASE_MS))

    def _a_node_was_gone(self, outage: Incident, period_ms: int) -> bool:
        return any(
            incident.kind in _DEATHS
            and incident.ended_ms >= outage.began_ms - 2 * period_ms
            and incident.began_ms <= outage.ended_ms
            for incident in self._evidence.incidents
        )

    def _stalled_ms(self, from_ms: int, until_ms: int) -> int:
        """Return for how long the machine did not let anything run."""
        return sum(
            stall.lasted_ms
            for stall in self._evidence.stalls
            if stall.at_ms <= until_ms and stall.at_ms + stall.lasted_ms >= from_ms - _BEFORE_MS
        )

    # --- limits

    def _doubled(self, life: Life) -> int:
        """Return how many checks came too early; each is a failure."""
        found = 0
        for segment in life.segments:
            for (before_ms, before), (at_ms, check) in pairwise(self._checks_in(life, segment)):
                apart_ms = at_ms - before_ms
                if apart_ms >= segment.period_ms // 2 - 2 or self._may_repeat(life, before_ms, check.started_ms):
                    continue
                found += 1
                self._failures.append(
                    f"doubled: {life.monitor_id}, every {segment.period_ms // 1000} s, was checked at "
                    f"{self._since(before.started_ms)} and, by a claim {apart_ms} ms later, at "
                    f"{self._since(check.started_ms)}"
                )
        return found

    def _may_repeat(self, life: Life, from_ms: int, until_ms: int) -> bool:
        """Return whether two checks may be close: Redis lost data between them, or their monitor was edited.

        Without the database, an edit may take effect late: until then each node uses what it has read last.
        """
        changed_ms = [at_ms for at_ms, _ in life.edits] + [segment.from_ms for segment in life.segments]
        if any(from_ms <= at_ms <= until_ms for at_ms in changed_ms):
            return True
        if any(self._evidence.began_ms < at_ms <= until_ms for at_ms in changed_ms) and self._database_was_gone(
            from_ms
        ):
            return True
        return any(
            rule_of(incident.kind).loses_data and incident.began_ms <= until_ms and incident.ended_ms >= from_ms
            for incident in self._evidence.incidents
        )

    def _is_lost(self, life: Life) -> bool:
        """Return whether a monitor is active and has not been checked at the end."""
        end_ms = self._evidence.ended_ms
        if not life.segments:
            return False
        segment = life.segments[-1]
        since_ms = end_ms - segment.period_ms * 3 // 2 - _LOST_AFTER_MS
        if segment.until_ms < end_ms or self._expected_ms(segment) > since_ms:
            return False
        if any(at_ms >= since_ms for at_ms, _ in self._checks[life.monitor_id]):
            return False
        if any(span.until_ms >= since_ms for span in self._active[life.monitor_id]) or self._stalled_ms(
            since_ms, end_ms
        ):
            return False
        last = self._checks[life.monitor_id][-1:]
        when = f"last at {self._since(last[0][0])}" if last else "never"
        self._failures.append(
            f"lost: {life.monitor_id}, every {segment.period_ms // 1000} s, was checked {when}, "
            f"and the run ended at {self._since(end_ms)}"
        )
        return True

    def _check_contents(self, life: Life) -> None:
        """Find tasks of a monitor that was gone or inactive, and tasks made of what it was before an edit."""
        for at_ms, check in self._checks[life.monitor_id]:
            if self._database_was_gone(at_ms):
                continue
            if not any(
                segment.from_ms - GONE_WITHIN_MS <= at_ms <= segment.until_ms + GONE_WITHIN_MS
                for segment in life.segments
            ):
                self._failures.append(
                    f"{life.monitor_id} was checked at {self._since(at_ms)}, though deleted or inactive"
                )
            names = [name for edited_ms, name in life.edits if edited_ms < at_ms - GONE_WITHIN_MS]
            later = [name for edited_ms, name in life.edits if edited_ms >= at_ms - GONE_WITHIN_MS]
            if names and check.name not in {names[-1], *later}:
                self._failures.append(
                    f"old data: {life.monitor_id} was checked at {self._since(at_ms)} as {check.name!r}, "
                    f"long after it became {names[-1]!r}"
                )

    def _database_was_gone(self, at_ms: int) -> bool:
        return any(
            incident.kind in OF_DATABASE and _covers(incident, at_ms, DATABASE_MS)
            for incident in self._evidence.incidents
        )

    def _check_missed(self, slots: Sequence[Slot]) -> None:
        missed = [slot for slot in slots if slot.missed]
        for slot in missed:
            if slot.reason is Reason.NONE:
                self._failures.append(f"missed for no reason: {self._described(slot)}")
        self._check_late(slots)
        self._check_excused(missed)
        old = Counter((slot.monitor_id, slot.incident) for slot in missed if slot.reason is Reason.OLD_INTERVAL)
        for (id_, incident), times in old.items():
            if times > 1:
                self._failures.append(f"missed {times} times with the old interval: {id_}, after {incident}")
        for from_ms, until_ms in self._outages():
            by_monitor: Counter[str] = Counter()
            for slot in missed:
                if slot.reason in _NOBODY and from_ms <= slot.at_ms <= until_ms:
                    by_monitor[slot.monitor_id] += 1
                    if by_monitor[slot.monitor_id] == max(1, (until_ms - from_ms) // slot.period_ms) + 1:
                        self._failures.append(
                            f"missed too often, while Redis or all nodes were gone, "
                            f"{self._since(from_ms)} to {self._since(until_ms)}: {self._described(slot)}"
                        )

    def _check_excused(self, missed: Sequence[Slot]) -> None:
        """Find excuses that come too often."""
        most = max(1, int(_EXCUSED_SHARE * sum(map(len, self._checks.values()))))
        for reason in (Reason.RUNNING, Reason.MACHINE):
            times = sum(slot.reason is reason for slot in missed)
            if times > most:
                self._failures.append(f"missed {times} times, and {most} may be, as {reason}")

    def _check_late(self, slots: Sequence[Slot]) -> None:
        """Find what was late, though nothing was broken and the machine did not stall."""
        for slot in slots:
            late_ms = slot.made_good_ms - slot.at_ms
            unexplained_ms = late_ms - self._stalled_ms(slot.at_ms, slot.made_good_ms)
            if not slot.missed and slot.incident is None and unexplained_ms > _LATE_LIMIT_MS:
                self._failures.append(f"{late_ms / 1000:.1f} s late without a fault: {self._described(slot)}")

    def _described(self, slot: Slot) -> str:
        return f"{slot.monitor_id}, every {slot.period_ms // 1000} s, its slot at {self._since(slot.at_ms)}"

    def _outages(self) -> list[tuple[int, int]]:
        """Return when Redis or all nodes were gone, or had just come back; outages that overlap are one."""
        found: list[tuple[int, int]] = []
        for incident in self._evidence.incidents:
            rule = rule_of(incident.kind)
            if rule.reason in _NOBODY:
                from_ms, until_ms = incident.began_ms - _BEFORE_MS, incident.ended_ms + (rule.recovers_ms or 0)
                if found and from_ms <= found[-1][1]:
                    from_ms, until_ms = found[-1][0], max(found.pop()[1], until_ms)
                found.append((from_ms, until_ms))
        return found

    def _check_claims(self) -> None:
        """Find claims that outlived their lease while Redis was there."""
        for span in self._evidence.claimed:
            gone_ms = sum(
                max(0, min(span.until_ms, one.ended_ms + REDIS_MS) - max(span.from_ms, one.began_ms))
                for one in self._evidence.incidents
                if rule_of(one.kind).reason in _NOBODY or one.kind is Kind.CLOCK_STEPPED
            )
            lasted_ms = span.until_ms - span.from_ms - gone_ms - self._stalled_ms(span.from_ms, span.until_ms)
            if lasted_ms > CLAIM_MS + _SAMPLING_MS:
                self._failures.append(
                    f"claimed for too long: {span.monitor_id}, for {lasted_ms / 1000:.1f} s, from "
                    f"{self._since(span.from_ms)}"
                )

    def _recovery(self, incident: Incident, slots: Sequence[Slot]) -> Recovery:
        """Return how long a fault was felt; a failure if for longer than it may be."""
        rule = rule_of(incident.kind)
        traces = [slot for slot in slots if slot.incident == incident]
        from_ms = incident.began_ms if rule.from_its_beginning else incident.ended_ms
        claimed = [slot for slot in traces if slot.reason is Reason.CLAIM and rule.reason in _NOBODY]
        others = [slot for slot in traces if slot not in claimed]
        self._check_recovery(incident, others, from_ms, rule.recovers_ms)
        self._check_recovery(incident, claimed, from_ms, NODE_MS)
        missed = sum(slot.missed for slot in traces)
        return Recovery(incident, missed, len(traces) - missed, _latest(others, from_ms), _latest(claimed, from_ms))

    def _check_recovery(self, incident: Incident, slots: Sequence[Slot], from_ms: int, limit_ms: int | None) -> None:
        slot = max(slots, key=lambda one: one.made_good_ms, default=None)
        if slot is None or limit_ms is None:
            return
        took_ms = slot.made_good_ms - from_ms
        if took_ms - self._stalled_ms(from_ms, slot.made_good_ms) > limit_ms:
            self._failures.append(
                f"recovered too late from {incident.kind} at {self._since(from_ms)}: {took_ms / 1000:.1f} s later; "
                f"the limit is {limit_ms / 1000:g} s; {self._described(slot)}"
            )

    def _since(self, at_ms: int) -> str:
        return f"{(at_ms - self._evidence.began_ms) / 1000:.2f} s"


def _latest(slots: Sequence[Slot], from_ms: int) -> int:
    return max([slot.made_good_ms - from_ms for slot in slots] + [0])


def _nobody_at(incident: Incident, at_ms: int) -> bool:
    return rule_of(incident.kind).reason in _NOBODY and incident.began_ms <= at_ms <= incident.ended_ms


def _covers(incident: Incident, at_ms: int, afterwards_ms: int) -> bool:
    return incident.began_ms - _BEFORE_MS <= at_ms <= incident.ended_ms + afterwards_ms


def _by_monitor(spans: Sequence[Span]) -> defaultdict[str, list[Span]]:
    found: defaultdict[str, list[Span]] = defaultdict(list)
    for span in spans:
        found[span.monitor_id].append(span)
    return found
