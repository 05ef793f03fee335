"""The sentence at the top of the page: that all checks run on time, or what is wrong and what to do.

A condition of every alert in deploy/prometheus/rules.yml is among these, and none is laxer or later than its alert: so
the page is never green while one fires. A test goes through the alerts.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from enum import IntEnum
from typing import Final

from msgspec import Struct

from peekaping_producer.asynq.queue import NO_WORKER, PAUSED, TOO_SLOW, complaints
from peekaping_producer.capacity.memory import shortage
from peekaping_producer.fleet.invalid_monitors import MOST_LISTED
from peekaping_producer.observe.history import LATE_WITHIN_S, MISSED_WITHIN_S, TERMS_WITHIN_S, Recent
from peekaping_producer.redisdb.memory import KEEPS_ALL
from peekaping_producer.report.alive import LEADERLESS, NOT_RUNNING
from peekaping_producer.report.format import count, span
from peekaping_producer.report.status_values import NodeStatus, Status

CLAIMS_WITHIN_S = 15.0
"""A node claims at least once a second."""
MOST_TERMS = 3
"""Terms that begin in 16 minutes; a restart of each node is one or two."""


class Level(IntEnum):
    """How serious a problem is."""

    OK = 0
    ATTENTION = 1
    """Monitors are checked, but something needs attention; or checks are paused, which ends by itself."""
    BAD = 2
    """Some monitors are not checked, or it is not known whether they are."""


class System(Struct, frozen=True):
    """Redis or the database, as the node that serves the page sees it."""

    answered: bool = True
    """Whether it has answered since the start."""
    problem: str | None = None
    """Why it is unavailable; None if it is not."""
    down_s: float = 0.0
    """For how long."""


class Situation(Struct, frozen=True):
    """All that the sentence depends on."""

    redis: System = System()
    database: System = System()
    status: Status | None = None
    """What was read from Redis; None if it was not read yet."""


class Problem(Struct, frozen=True):
    """One thing that is wrong."""

    code: str
    """What stays the same while it lasts."""
    level: Level
    text: str
    action: str
    """What to do about it."""
    alert: str | None = None
    """The alert that fires if it lasts, which is also its entry in docs/runbook.md."""
    for_s: float | None = None
    """For how long it has lasted; None if that is not known."""


class Headline(Struct, frozen=True):
    """The sentence, and all that is wrong, the worst first."""

    level: Level
    text: str
    problems: list[Problem]


def headline(situation: Situation) -> Headline:
    """Return what the page says first."""
    if situation.redis.problem or not situation.redis.answered or situation.status is None:
        found = [*_own_systems(situation)]
    else:
        status = situation.status
        found = [problem for rule in _RULES for problem in rule(status)] + [*_own_systems(situation)]
    problems = sorted(_distinct(found), key=lambda problem: -problem.level)
    if problems:
        return Headline(problems[0].level, problems[0].text, problems)
    if situation.status is None:
        return Headline(Level.ATTENTION, "This node is starting", [])
    return Headline(Level.OK, _all_well(situation.status), [])


def _all_well(status: Status) -> str:
    if not status.scheduled:
        return "There are no active monitors"
    if status.scheduled == 1:
        return "The only check runs on time"
    return f"All {status.scheduled:,} checks run on time"


def _distinct(problems: Iterable[Problem]) -> list[Problem]:
    """Leave out what another problem already says."""
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.code, problem)
    return [*first.values()]


def _own_systems(situation: Situation) -> Iterator[Problem]:
    redis, database = situation.redis, situation.database
    if redis.problem or not redis.answered:
        yield Problem(
            "redis",
            Level.BAD,
            "Redis is unavailable, so this node checks nothing",
            f"Repair Redis, or this node's access to it: {redis.problem or 'it has not answered yet'}. "
            "What is shown below is what was read last.",
            "PeekapingProducerRedisUnavailable",
            redis.down_s,
        )
    if not database.answered:
        yield Problem(
            "database",
            Level.BAD,
            "The database has not answered yet, so this node checks nothing",
            f"Start the database, or repair this node's access to it: {database.problem or 'it is being asked'}.",
            "PeekapingProducerDatabaseUnavailable",
            database.down_s,
        )
    elif database.problem:
        yield _database("for this node", database.problem, database.down_s)


def _database(whose: str, problem: str, down_s: float) -> Problem:
    return Problem(
        "database",
        Level.ATTENTION,
        f"The database is unavailable {whose}; checks go on from the cache",
        f"Repair it, or the access to it: {problem}. Push monitors wait, and edits take effect only afterwards.",
        "PeekapingProducerDatabaseUnavailable",
        down_s,
    )


def _paused(status: Status) -> Iterator[Problem]:
    pause = status.pause
    if pause:
        until = f"{datetime.fromisoformat(pause.until):%H:%M:%S}"
        yield Problem(
            "paused",
            Level.ATTENTION,
            f"All checks are paused until {until}",
            f"{_sentence(pause.reason)}{f' ({pause.by})' if pause.by else ''}. "
            "Wait, or end the pause at the foot of this page or with `peekaping-producer resume`.",
            "PeekapingProducerPaused",
        )


def _nobody_runs(status: Status) -> Iterator[Problem]:
    alert = "PeekapingProducerNobodyClaims"
    ages_s = [_claimed_ago_s(node, status) for node in status.nodes if not node.gone]
    if not status.running:
        action = "Start a node. If it exits with code 2, its standard error says what to fix."
        yield Problem("nobody", Level.BAD, _sentence(NOT_RUNNING), action, alert)
    elif ages_s and min(ages_s) > CLAIMS_WITHIN_S:
        whole = "only a Go producer checks" if status.leader_is_go else "so nothing is checked"
        text = f"No node has made a claim for {span(round(min(ages_s)))}, {whole}"
        yield Problem("nobody", Level.BAD, text, "Look at /livez of each node; restart one that is frozen.", alert)


def _claimed_ago_s(node: NodeStatus, status: Status) -> float:
    """Return how long ago a node last claimed; if it never has, how long ago it started."""
    if node.claimed_ago_s is not None:
        return node.seen_ago_s + node.claimed_ago_s
    try:
        return (datetime.fromisoformat(status.at) - datetime.fromisoformat(node.started)).total_seconds()
    except ValueError:  # a record that another version wrote
        return 0.0


def _queue(status: Status) -> Iterator[Problem]:
    level, action, alert = {
        PAUSED: (Level.BAD, "Resume the queue, for example with `asynq queue unpause`.", None),
        NO_WORKER: (
            Level.BAD,
            "Start Peekaping's workers. If they run: do they use the same Redis and REDIS_DB?",
            "PeekapingProducerNoWorker",
        ),
        TOO_SLOW: (Level.BAD, "Start more workers, or raise the intervals of slow monitors.", None),
    }.get(next(iter(complaints(status.queue)), ""), (Level.OK, "", None))
    if level:
        yield Problem("queue", level, _sentence(complaints(status.queue)[0]), action, alert)


def _memory(status: Status) -> Iterator[Problem]:
    if status.memory is None:
        return
    if risk := status.memory.risk():
        yield Problem("policy", Level.ATTENTION, f"Redis' {risk}", f"Set it to {KEEPS_ALL}.")
    if short := shortage(status.memory, status.scheduled, status.queue.pending):
        yield Problem("memory", Level.ATTENTION, _sentence(short), "Raise maxmemory.")


_STAGES: Final = "see in the metric stage_seconds which stage takes the time"


def _overdue(status: Status) -> Iterator[Problem]:
    overdue = status.overdue
    if overdue.count and status.running:
        late = count(overdue.count, "check is", "checks are")
        yield Problem(
            "overdue",
            Level.BAD,
            f"{late} late, the longest by {span(round(overdue.longest_ms / 1000))}",
            f"If the number falls, the nodes are catching up. If not, {_STAGES}.",
            "PeekapingProducerLate",
            max(0.0, overdue.longest_ms / 1000),
        )


def _late(status: Status) -> Iterator[Problem]:
    late = sum(recent.late for recent in _recent(status, LATE_WITHIN_S))
    if late:
        text = f"{count(late, 'check was', 'checks were')} more than 10 s late in the last 6 minutes"
        action = f"If an outage has just ended, the nodes have caught up. If not, {_STAGES}."
        yield Problem("late", Level.ATTENTION, text, action, "PeekapingProducerLate")


_PAUSED: Final = "paused"
"""What was missed for this reason was missed on purpose."""
_MISSED: Final = {
    "no_node": "no node ran, or one died",
    "redis": "Redis was unavailable",
    "database": "the database was unavailable",
    "overload": "the nodes or the workers were too slow",
    "still_running": "the earlier check was still running",
}


def _recent(status: Status, within_s: float) -> list[Recent]:
    """Return what the nodes did in the last minutes, including those that have stopped within this time."""
    stopped = [node.recent for node in status.inactive_nodes if node.seen_ago_s < within_s]
    return [node.recent for node in status.nodes] + stopped


def _missed(status: Status) -> Iterator[Problem]:
    reasons: dict[str, int] = {}
    for recent in _recent(status, MISSED_WITHIN_S):
        for reason, number in recent.missed.items():
            if reason != _PAUSED:
                reasons[reason] = reasons.get(reason, 0) + number
    if total := sum(reasons.values()):
        text = f"{count(total, 'check was', 'checks were')} missed in the last 11 minutes"
        why = "; ".join(f"{number:,} because {_MISSED.get(reason, reason)}" for reason, number in reasons.items())
        yield Problem("missed", Level.ATTENTION, text, f"{_sentence(why)}.", "PeekapingProducerMissedChecks")


def _databases(status: Status) -> Iterator[Problem]:
    down = [node for node in status.nodes if node.database_problem and not node.gone]
    if down:
        first = max(down, key=lambda node: node.database_down_s)
        alive = sum(not node.gone for node in status.nodes)
        whose = "" if len(down) == alive else f" for {count(len(down), 'node', 'nodes')} of {alive}"
        yield _database(whose.strip() or "now", first.database_problem or "", first.database_down_s + first.seen_ago_s)
    for node in status.inactive_nodes:
        if node.database_problem:
            yield Problem(
                "waits for its database",
                Level.ATTENTION,
                f"The node {node.id} waits for its database, which has not answered since its start",
                f"Repair it, or this node's access to it: {node.database_problem}.",
                "PeekapingProducerDatabaseUnavailable",
                node.database_down_s + node.seen_ago_s,
            )


def _invalid(status: Status) -> Iterator[Problem]:
    number = status.invalid.count
    if number:
        more = " or more" if number >= MOST_LISTED else ""
        yield Problem(
            "invalid",
            Level.ATTENTION,
            f"{number:,}{more} {'monitor is' if number == 1 else 'monitors are'} invalid, and not checked",
            "Fix the rows, for example by saving the monitors again in Peekaping. The reasons are listed below.",
            "PeekapingProducerInvalidMonitors",
        )


def _leader(status: Status) -> Iterator[Problem]:
    terms = max((recent.terms for recent in _recent(status, TERMS_WITHIN_S)), default=0)
    if status.running and not status.leader:
        action = "A node takes over within 5 s. If none does, look at the nodes' logs."
        yield Problem("leaderless", Level.ATTENTION, _sentence(LEADERLESS), action)
    if terms > MOST_TERMS:
        yield Problem(
            "leader flaps",
            Level.ATTENTION,
            f"A new term of leadership began {terms} times in 16 minutes",
            "The logs say why. Usual causes: a slow Redis, a host without free CPU, a node that restarts.",
            "PeekapingProducerLeaderFlaps",
        )


def _gone(status: Status) -> Iterator[Problem]:
    gone = [node for node in status.nodes if node.gone]
    if gone and status.running:
        text = "A node is gone" if len(gone) == 1 else f"{len(gone)} nodes are gone"
        action = "It was killed, or is cut off from Redis. The others do its work. It is listed for an hour."
        newest: NodeStatus = min(gone, key=lambda node: node.seen_ago_s)
        yield Problem("gone", Level.ATTENTION, f"{text}; checks go on", action, for_s=newest.seen_ago_s)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


_RULES: Final[tuple[Callable[[Status], Iterator[Problem]], ...]] = (
    _paused,
    _nobody_runs,
    _queue,
    _overdue,
    _missed,
    _late,
    _databases,
    _invalid,
    _leader,
    _gone,
    _memory,
)
