"""`check`: whether `run` would work here. It changes nothing."""

import asyncio
import sys
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack
from typing import Final

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer import __version__
from peekaping_producer.asynq.queue import queue_state
from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.commands.connect import connected_redis, opened_catalog
from peekaping_producer.config.fields import Switch
from peekaping_producer.config.loading import load_redis_settings, load_settings, unknown_variables
from peekaping_producer.config.origins import Origin, ShownSetting, shown_settings
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.config.settings import ScheduleMode, Settings
from peekaping_producer.errors import EXIT_CONFIGURATION, ConfigurationError, Unavailable
from peekaping_producer.preflight.database import count_findings, database_findings
from peekaping_producer.preflight.deployment import pause_findings, producer_findings, queue_findings, read_producers
from peekaping_producer.preflight.finding import Area, Finding, Level, failures, worst
from peekaping_producer.preflight.redis_server import read_redis, redis_findings
from peekaping_producer.report.format import count, printable_name
from peekaping_producer.schedule.requirements import COMMANDS, check_rights
from peekaping_producer.timing import Timing

_WITHIN_S = 8.0
"""The time limit of all questions to Redis, and at the same time to the database."""
_START: Final = {Area.REDIS: "start it, or correct REDIS_*", Area.DATABASE: "start it, or correct DB_*"}
"""What to do about a system that does not answer."""
_EXIT_UNAVAILABLE = 1
_EXIT_CODES: Final = {Level.UNAVAILABLE: _EXIT_UNAVAILABLE, Level.WRONG: EXIT_CONFIGURATION}
_MARKS: Final = {Level.OK: "✓", Level.WARNING: "!", Level.UNAVAILABLE: "✗", Level.WRONG: "✗"}
_ASCII_MARKS: Final = {**_MARKS, Level.OK: "+", Level.UNAVAILABLE: "x", Level.WRONG: "x"}


class Report(Struct, frozen=True):
    """All that `check` reports, as `--json` prints it; docs/commands.md describes every field."""

    version: str
    """Of this producer."""
    verdict: Level
    """The worst level of all findings."""
    settings: list[ShownSetting]
    findings: list[Finding]

    @property
    def exit_code(self) -> int:
        """0, also with warnings; 1 if something is unavailable; 2 if something must be changed."""
        return _EXIT_CODES.get(self.verdict, 0)

    def text(self) -> Iterator[str]:
        """Return the lines that are printed without `--json`."""
        marks = _marks()
        valid = not any(found.area is Area.SETTINGS and found.level is Level.WRONG for found in self.findings)
        for setting in self.settings:
            yield f"{marks[Level.OK] if valid else ' '} {Area.SETTINGS:<10}  {_setting(setting, valid=valid)}"
        for found in self.findings:
            to_do = f" ({found.to_do})" if found.to_do else ""
            yield f"{marks[found.level]} {found.area:<10}  {found.what}{to_do}"
        yield _summary(self.findings)


def check() -> Report:
    """Check the settings, Redis, the database and the deployment. It never raises: what fails becomes a finding."""
    settings, findings = _settings()
    redis_settings = settings or _redis_settings()
    findings += asyncio.run(_systems(redis_settings, settings))
    findings = [msgspec.structs.replace(found, what=printable_name(found.what)) for found in findings]
    return Report(__version__, worst(findings), shown_settings(settings), findings)


def _settings() -> tuple[Settings | None, list[Finding]]:
    try:
        settings = load_settings()
    except ConfigurationError as error:
        return None, failures(Area.SETTINGS, "variable", error)
    return settings, [
        Finding(Area.SETTINGS, "variable", Level.WARNING, str(unknown), "correct its name, or remove it")
        for unknown in unknown_variables()
    ]


def _redis_settings() -> RedisSettings | None:
    try:
        return load_redis_settings()
    except ConfigurationError:
        return None  # reported already


async def _systems(redis: RedisSettings | None, settings: Settings | None) -> list[Finding]:
    on_redis: list[Finding] = []
    on_database: list[Finding] = []
    async with AsyncExitStack() as stack:
        catalog = await _opened(settings, stack, on_database) if settings else None
        async with asyncio.TaskGroup() as group:
            if redis:
                group.create_task(_limited(_redis(redis, settings, on_redis), Area.REDIS, on_redis))
            if catalog:
                group.create_task(_limited(_database(catalog, on_database), Area.DATABASE, on_database))
    return sorted(on_redis + on_database, key=lambda finding: list(Area).index(finding.area))


async def _opened(settings: Settings, stack: AsyncExitStack, found: list[Finding]) -> Catalog | None:
    """Open the catalog before anything has a time limit: importing the driver takes time."""
    try:
        return await stack.enter_async_context(opened_catalog(settings, Timing()))
    except ConfigurationError as error:
        found += failures(Area.DATABASE, "server", error)
        return None


async def _limited(reading: Awaitable[None], area: Area, found: list[Finding]) -> None:
    """Wait for a reading that adds to `found`, and add why it ended early."""
    try:
        async with asyncio.timeout(_WITHIN_S):
            await reading
    except TimeoutError:
        found.append(Finding(area, "server", Level.UNAVAILABLE, f"no answer within {_WITHIN_S:g} s", _START[area]))
    except (ConfigurationError, Unavailable) as error:
        # A database's reason has its own advice.
        found += failures(area, "server", error, _START[area] if area is Area.REDIS else None)


async def _redis(address: RedisSettings, settings: Settings | None, found: list[Finding]) -> None:
    timing = Timing()
    mode = settings.producer_schedule if settings else ScheduleMode.AUTO
    retry_interval = settings.producer_retry_interval if settings else Switch.OFF
    async with connected_redis(address, timing) as redis:
        found += redis_findings(await read_redis(redis, timing.redis_timeout_s))
        rights = await _rights(redis, timing)
        found += rights
        if worst(rights) is not Level.OK:
            return
        producers = await read_producers(redis, timing)
        found += producer_findings(producers, mode, retry_interval)
        found += pause_findings(producers)
        found += queue_findings(await queue_state(redis, timing.redis_timeout_s))


async def _rights(redis: Redis, timing: Timing) -> list[Finding]:
    try:
        await check_rights(redis, timing.redis_timeout_s)
    except ConfigurationError as error:
        return failures(Area.REDIS, "rights", error)
    named = "EVALSHA", "PUBLISH", "SUBSCRIBE"
    what = f"the user may use {', '.join(named)} and the {len(COMMANDS) - len(named)} other commands that are needed"
    return [Finding(Area.REDIS, "rights", Level.OK, what)]


async def _database(catalog: Catalog, found: list[Finding]) -> None:
    await catalog.check()
    found += database_findings(await catalog.facts())
    found += count_findings(await catalog.counts())


def _setting(setting: ShownSetting, *, valid: bool) -> str:
    variable, value, origin = setting.variable, setting.value, setting.origin
    if origin is Origin.UNSET:
        return f"{variable} is not set"
    if origin is Origin.NAMED_FILE:
        return f"{variable} is read from the file that {variable}_FILE names"
    if value is None:
        return f"{variable} is set{', but not used' if valid else ''} ({origin})"
    return f"{variable} = {printable_name(str(value))} ({origin})"


def _summary(findings: list[Finding]) -> str:
    levels = [found.level for found in findings]
    counts = [
        (levels.count(Level.WRONG), "thing must be changed", "things must be changed"),
        (levels.count(Level.UNAVAILABLE), "is unavailable", "are unavailable"),
        (levels.count(Level.WARNING), "warning", "warnings"),
    ]
    return ", ".join(count(number, one, many) for number, one, many in counts if number) or "all is well"


def _marks() -> dict[Level, str]:
    """Return the marks that standard output's encoding has."""
    try:
        "✓✗".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return _ASCII_MARKS
    return _MARKS
