"""What the ids of monitors and of nodes look like. Pure."""

import re
from collections.abc import Sequence

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUIDS = re.compile(f"(?:{_UUID.pattern},)*")
_UUID_LENGTH = 36
_OBJECT_ID = re.compile(r"[0-9a-f]{24}")
_GO_NODE = re.compile(r"-[0-9]+\Z")


def is_uuid(text: str) -> bool:
    """Return whether this is a monitor's id as the SQL databases store it: a UUID in lower case, with dashes."""
    return _UUID.fullmatch(text) is not None


def are_uuids(texts: Sequence[str]) -> bool:
    """Return whether all are: in one step, as a batch nearly always holds no other."""
    joined = f"{','.join(texts)},"
    return len(joined) == len(texts) * (_UUID_LENGTH + 1) and _UUIDS.fullmatch(joined) is not None


def is_object_id(text: str) -> bool:
    """Return whether this is a monitor's id as MongoDB stores it: the hex of an ObjectId, in lower case."""
    return _OBJECT_ID.fullmatch(text) is not None


def is_monitor_id(text: str) -> bool:
    """Return whether this is a valid monitor id of either kind."""
    return is_uuid(text) or is_object_id(text)


def is_go_node(node_id: str) -> bool:
    """Return whether a node's id is a Go producer's: it ends in a hyphen and digits, ours never do.

    `redisdb/go_node.lua` applies the same rule.
    """
    return _GO_NODE.search(node_id) is not None
