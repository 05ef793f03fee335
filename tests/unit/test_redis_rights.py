"""The rights that the docs give a Redis user are those that the producer needs, and no others."""

import re
from pathlib import Path

from support.redis_rights import documented_rights

SOURCES = Path(__file__).parents[2] / "src" / "peekaping_producer"
BY_CLIENT = {
    *("ping", "info", "time", "select", "client|setname", "evalsha", "script|load", "subscribe", "publish"),
    *("mget", "hgetall", "hlen", "hdel", "zscan", "zrangebyscore"),
}
"""What the client sends itself, unless a script uses it as well."""


def test_the_documented_rights_are_those_that_scripts_and_client_need() -> None:
    scripts = [path.read_text() for path in SOURCES.rglob("*.lua") if path.parent.name != "demo"]
    calls = [call for script in scripts for call in re.findall(r"redis\.p?call\(\s*(\S+?)[,)]", script)]
    assert all(re.fullmatch("'[A-Z]+'", call) for call in calls), "a command must be seen by this test"
    commands = {right[1:] for right in documented_rights("hush") if right.startswith("+")}
    assert commands == {call.strip("'").lower() for call in calls} | BY_CLIENT
