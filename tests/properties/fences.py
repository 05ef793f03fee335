"""The fences of the scripts, each of which can be taken out: without it the property test must fail."""

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from properties.stage import replacing


class Fence(Struct, frozen=True):
    """Where a fence is."""

    script: str
    text: str
    instead: str


FENCES = {
    "token": Fence("settle", "if mine ~= token then", "if false then"),
    "leader-schedule": Fence("schedule", "if redis.call('GET', KEYS[3]) ~= ARGV[1] then return false end", ""),
    "leader-remove": Fence("remove", "if redis.call('GET', leader) ~= ARGV[3] then return false end", ""),
    "tombstone": Fence(
        "settle", "if order == 'cached' and redis.call('ZSCORE', KEYS[#KEYS], id) then", "if false then"
    ),
    "revoke": Fence("schedule", "elseif edited then", "elseif false then"),
}
"""By name; the model (tests/model) has the same ones."""


@contextmanager
def without(name: str) -> Iterator[None]:
    """Let new nodes load their scripts without a fence."""
    fence = FENCES[name]
    with replacing(fence.text, fence.instead, script=fence.script):
        yield
