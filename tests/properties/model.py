"""The model: what Redis holds, and what each operation should make of it, in plain Python.

Each function changes a State as the operation should change Redis, and returns what the operation should report. Only
what others decide is taken from outside: the token that a claim chose, and the instant.
"""

from copy import deepcopy
from typing import Literal, get_args

from msgspec import Struct

SHORT_LIST = 6
"""A pending list up to this length is searched whenever that helps; in the product it is 1,000."""
SEARCHES = 1
"""How many times one settle searches a longer list; in the product it is 5."""
WAITING_STATES = ("scheduled", "retry", "archived", "completed", "aggregating")
ALLOWANCE_MS = 50
"""The time a request may take, as far as a claim's horizon is concerned."""
ORPHAN_AFTER_MS = 2_000

Kind = Literal["enqueue", "cached", "release", "drop"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Grid(Struct, frozen=True):
    """Where a monitor's slots are."""

    period_ms: int
    phase_ms: int

    def first_from(self, at_ms: float) -> int:
        """Return the first slot at or after an instant."""
        slot_ms = int(at_ms // self.period_ms) * self.period_ms - self.period_ms + self.phase_ms
        while slot_ms < at_ms:
            slot_ms += self.period_ms
        return slot_ms

    def after_check(self, now_ms: int) -> int:
        """Return the slot that follows a check: never less than half a period later (invariant 1)."""
        return self.first_from(now_ms + self.period_ms // 2)

    def has(self, at_ms: float) -> bool:
        """Return whether an instant is a slot, or the Go node's slot next to it."""
        return self.first_from(at_ms) - at_ms in (0, 1)


class Task(Struct):
    """What is at the key of a monitor's task."""

    state: str | None
    """None: this is not a task."""
    message: bytes
    since_ms: int | None = None


class Order(Struct, frozen=True):
    """What a node wants done with one claimed monitor."""

    kind: Kind
    id: str
    message: bytes = b""
    grid: Grid = Grid(1, 0)
    delay_ms: int = 0


class Entry(Struct, frozen=True):
    """A monitor that a leader brings in."""

    id: str
    grid: Grid
    at_once: bool
    edited: bool
    period_changed: bool
    retry_ms: int | None = None
    """The period of its retry grid, if it is not on that."""


class State(Struct):
    """Everything that the operations read or write. Tasks are known by their monitors' ids."""

    now_ms: int
    due: dict[str, float]
    lease: dict[str, float]
    tombstones: dict[str, float]
    leader: str | None
    left: int
    step: dict[str, int]
    tasks: dict[str, Task]
    pending: list[str]
    """The next one that a worker takes is the last."""
    active: list[str]
    worker_leases: dict[str, float]
    waiting: dict[str, list[str]]
    """By state: the tasks in its set."""
    running: set[str] | None
    """What live workers say they run; None: the key that says so is damaged."""
    go_seen: bool

    def copy(self) -> "State":
        """Return a copy to change."""
        return deepcopy(self)

    @property
    def scheduled(self) -> set[str]:
        """Every monitor in the schedule."""
        return self.due.keys() | self.lease.keys()


def ours(at_ms: float) -> float:
    """Return an instant as a score that no Go node writes (invariant 11)."""
    return at_ms + 1 if at_ms % 1000 == 0 else at_ms


# --- claims


def claimable(state: State, until_ms: float) -> list[tuple[str, float]]:
    """Return what may be claimed, in its order."""
    until_ms = min(until_ms, state.now_ms)
    in_order = sorted(state.due.items(), key=lambda item: (item[1], item[0]))
    step = forward_step(state)
    if step is None:
        return [item for item in in_order if item[1] <= until_ms]
    at_ms, by_ms = step
    # What was due before the step waits until it would have been due without it.
    early = [item for item in in_order if item[1] <= min(until_ms, state.now_ms - by_ms)]
    late = [item for item in in_order if at_ms < item[1] <= until_ms]
    return early + late


def claim(state: State, taken: list[str], token: str) -> None:
    """Move monitors into the lease."""
    for id_ in taken:
        del state.due[id_]
        state.lease[id_] = float(token)


def reclaim(state: State, lease_ms: int, far_ms: int) -> int:
    """Put expired claims back, as of when they were made, and those absurdly far ahead."""
    moved = 0
    for id_, until_ms in list(state.lease.items()):
        if until_ms <= state.now_ms or until_ms > state.now_ms + far_ms:
            made_ms = until_ms - lease_ms if until_ms <= state.now_ms else state.now_ms
            state.due.setdefault(id_, ours(made_ms))
            del state.lease[id_]
            moved += 1
    return moved


# --- settle


def settle(state: State, token: str, orders: list[Order], postpone_ms: int) -> list[str]:
    """Carry out the orders of one claim; return the outcomes."""
    searches = [SEARCHES]
    return [_settle_one(state, float(token), order, postpone_ms, searches) for order in orders]


def _settle_one(state: State, token: float, order: Order, postpone_ms: int, searches: list[int]) -> str:
    id_ = order.id
    if state.lease.get(id_) != token:
        return "lost"
    removed = order.kind == "cached" and id_ in state.tombstones  # invariant 12
    if order.kind == "drop" or removed:
        if not removed:
            withdraw(state, id_, order.message)
        del state.lease[id_]
        state.left += 1
        return "dropped"
    if order.kind == "release":
        outcome, due_ms = "released", ours(state.now_ms + order.delay_ms)
    else:
        outcome, due_ms = _place(state, id_, order.message, searches), float(order.grid.after_check(state.now_ms))
        if outcome == "postponed":
            due_ms = ours(state.now_ms + postpone_ms)
    if outcome != "failed":  # invariant 7: such a claim is left to expire
        state.due[id_] = due_ms
        del state.lease[id_]
    return outcome


def _place(state: State, id_: str, message: bytes, searches: list[int]) -> str:
    task = state.tasks.get(id_)
    short = len(state.pending) <= SHORT_LIST
    outcome = "enqueued"
    if task and task.state == "pending":
        if id_ in state.pending or not short:
            task.message = message
            return "refreshed"
        outcome = "healed_unlisted"
    elif task and task.state == "active":
        if state.worker_leases.get(id_, 0) * 1000 > state.now_ms - ORPHAN_AFTER_MS:
            return "running"
        if state.running is None:
            return "failed"
        if id_ in state.running:
            return "running"
        outcome = "healed_orphaned"
    elif task and task.state is None:
        if not short:
            if not searches[0]:
                return "postponed"
            searches[0] -= 1
        state.pending = [other for other in state.pending if other != id_]
        outcome = "healed_malformed"
    elif task:
        outcome = f"healed_{task.state}"
    if task:
        forget_task(state, id_)
    state.tasks[id_] = Task("pending", message, state.now_ms)
    state.pending.insert(0, id_)
    return outcome


def forget_task(state: State, id_: str) -> None:
    """Take a task out of everything but the pending list, and out of a group only if it says that it is in one."""
    task = state.tasks.pop(id_, None)
    state.active = [other for other in state.active if other != id_]
    state.worker_leases.pop(id_, None)
    for name, tasks in state.waiting.items():
        if id_ in tasks and (name != "aggregating" or (task and task.state == name)):
            tasks.remove(id_)


def withdraw(state: State, id_: str, stale: bytes) -> None:
    """Take a pending task back; where the list is too long to search, make it stale."""
    task = state.tasks.get(id_)
    if task is None or task.state != "pending":
        return
    if len(state.pending) <= SHORT_LIST:
        state.pending = [other for other in state.pending if other != id_]
        del state.tasks[id_]
    else:
        task.message = stale


# --- what the leader does, and run-now


def schedule(state: State, entries: list[Entry], lost_ms: int) -> list[str]:
    """Bring monitors into the schedule (invariant 5); return the placements."""
    placements = []
    for entry in entries:
        placement, due_ms = _placement(state, entry, lost_ms)
        if entry.edited:
            state.lease.pop(entry.id, None)
        if due_ms is not None:
            state.due[entry.id] = due_ms
        placements.append(placement)
        state.tombstones.pop(entry.id, None)
    return placements


def _placement(state: State, entry: Entry, lost_ms: int) -> tuple[str, float | None]:
    now_ms, grid, due_ms = state.now_ms, entry.grid, state.due.get(entry.id)
    if due_ms is None and entry.id in state.lease:
        return ("revoked", ours(now_ms)) if entry.edited else ("kept", None)
    if due_ms is None:
        return "added", ours(now_ms) if entry.at_once else grid.first_from(now_ms - lost_ms)
    on_retry_grid = entry.retry_ms is not None and (due_ms - grid.phase_ms) % entry.retry_ms == 0
    off_grid = (entry.edited or on_retry_grid) and not grid.has(due_ms)
    too_soon = entry.period_changed and due_ms < now_ms + grid.period_ms // 2
    too_late = due_ms > now_ms + grid.period_ms * 1.5
    step = open_step(state)
    by_step = False
    if step:
        at_ms, by_ms = step
        by_step = too_late if by_ms < 0 else now_ms - by_ms < due_ms <= at_ms
    if by_step and not off_grid and not too_soon:
        assert step
        without_ms = due_ms + step[1]
        nearest_ms = grid.first_from(-(-(min(without_ms, now_ms + grid.period_ms * 1.5) - grid.period_ms // 2) // 1))
        return "moved", nearest_ms if nearest_ms >= now_ms else ours(max(now_ms, without_ms))
    if by_step or too_late or (due_ms > now_ms and (off_grid or too_soon)):
        return "moved", grid.after_check(now_ms)
    return "kept", None


def remove(state: State, stale_messages: dict[str, bytes], tombstone_ms: int) -> int:
    """Take monitors out of the schedule, with their pending tasks; return how many were in it."""
    state.tombstones = {id_: at for id_, at in state.tombstones.items() if at > state.now_ms - tombstone_ms}
    removed = 0
    for id_, stale in stale_messages.items():
        removed += id_ in state.scheduled
        state.lease.pop(id_, None)
        state.due.pop(id_, None)
        state.tombstones[id_] = state.now_ms
        withdraw(state, id_, stale)
    state.left += removed
    return removed


def run_now(state: State, ids: list[str]) -> list[bool]:
    """Make monitors due at once, unless they are claimed."""
    done = []
    for id_ in ids:
        done.append(id_ not in state.lease)
        if done[-1]:
            state.due[id_] = min(state.due.get(id_, float("inf")), ours(state.now_ms))
    return done


# --- steps of Redis' clock


def open_step(state: State) -> tuple[int, int] | None:
    """Return at what instant, and how far, Redis' clock went in a step that still counts."""
    step = state.step
    if not step or "swept" in step or not step["noted_ms"] <= state.now_ms < step["until_ms"]:
        return None
    return step["at_ms"], step["by_ms"]


def forward_step(state: State) -> tuple[int, int] | None:
    """Return the same, but only while monitors are overdue because of it."""
    step = open_step(state)
    return step if step and step[1] >= 0 and state.now_ms - step[1] < step[0] else None
