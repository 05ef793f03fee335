"""One run: the plan carried out on a stage, and what it has shown."""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chaos.actions import Actions
from chaos.evidence import Evidence
from chaos.plan import Fault
from chaos.stage import Stage

MONITORS: Final = 180
_BACKUP_EVERY_S: Final = 5.0
_TICK_S: Final = 0.02


def run(database: str, plan: Sequence[Fault], seconds: float, folder: Path) -> Evidence:
    """Carry out a plan; logs and the ledger are written into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with Stage(database, folder, folder.parent.resolve()) as stage:
        stage.editor.fill(MONITORS)
        stage.begin()
        log = _Log()
        log(f"{MONITORS} monitors on {database}, {len(stage.nodes)} nodes, {seconds:g} s")
        actions = Actions(stage, log)
        _carry_out(plan, seconds, stage, actions)
        stage.end()
        actions.finish()
        return stage.evidence(actions.incidents)


def _carry_out(plan: Sequence[Fault], seconds: float, stage: Stage, actions: Actions) -> None:
    begun_s = time.monotonic()
    coming = list(plan)
    lasting: list[tuple[float, Fault]] = []
    backup_s = 0.0
    while (at_s := time.monotonic() - begun_s) < seconds:
        stage.watch()
        actions.note_started()
        for ends_s, fault in [one for one in lasting if one[0] <= at_s]:
            lasting.remove((ends_s, fault))
            actions.end(fault)
        while coming and coming[0].at_s <= at_s:
            fault = coming.pop(0)
            actions.begin(fault)
            if fault.lasts_s:
                lasting.append((time.monotonic() - begun_s + fault.lasts_s, fault))
        if at_s >= backup_s:
            stage.redis.back_up()
            backup_s = at_s + _BACKUP_EVERY_S
        time.sleep(_TICK_S)


class _Log:
    """What happens, as it happens."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()

    def __call__(self, line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - self._begun_s:6.1f} s  {line}\n")
