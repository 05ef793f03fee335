"""What Redis' error codes mean: which ones say that this server can't serve us, and what an operator can do."""

import re

from redis.exceptions import RedisError

NOT_A_NUMBER = "NOTANUMBER"
CANNOT_SERVE = frozenset({"READONLY", "MASTERDOWN", "LOADING", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN"})
"""Replies of a server that can't serve us now: the next connection may lead to another one."""
REFUSALS = CANNOT_SERVE | {"OOM", "MISCONF", "NOPERM", "NOAUTH", "WRONGPASS", "WRONGTYPE", "BUSY", NOT_A_NUMBER}
"""Replies that are not about one record: the same command may work later."""
DAMAGED = frozenset({"WRONGTYPE", NOT_A_NUMBER})
"""A key holds the wrong type."""

_ADVICE = {
    "READONLY": "this server is a replica: point REDIS_HOST at the primary, or set REDIS_SENTINELS",
    "MASTERDOWN": "this server is a replica that has lost its primary: point REDIS_HOST at the primary, or set"
    " REDIS_SENTINELS",
    "LOADING": "it is still reading its data from disk: wait",
    "NOREPLICAS": "too few replicas are connected: see min-replicas-to-write",
    "OOM": "Redis has used all of maxmemory: raise it, or free memory; maxmemory-policy should be noeviction",
    "WRONGTYPE": "a key holds the wrong type: the producer renames its own keys, asynq's must be renamed by hand",
    NOT_A_NUMBER: "one of the producer's counters does not hold a number: the producer renames it",
    "NOPERM": "the Redis user lacks a right: grant it by ACL",
    "NOAUTH": "Redis requires a password: set REDIS_PASSWORD and restart the producer",
    "WRONGPASS": "the password is wrong: correct it; changing REDIS_PASSWORD needs a restart, changing the file that"
    " REDIS_PASSWORD_FILE names does not",
    "MISCONF": "Redis can't save its data and so refuses writes: see its log; free disk space, or make its folder"
    " writable",
    "BUSY": "a script of another client has been running for too long: SCRIPT KILL ends it",
}
_CODE = re.compile(r"(?:^|-)([A-Z]{2,})(?= )")
"""At the start, or after a dash: Redis before 7 wraps the error of a script's command."""
_IN_PIPELINE = re.compile(r"^Command # \d+ .* of pipeline caused error: \(?['\"]?(.*?)['\"]?,?\)?$")
"""How redis-py wraps an error in a pipeline."""
_NOT_A_NUMBER = ("value is not an integer", "increment or decrement would overflow")
_PLACE_IN_SCRIPT = re.compile(r"[.,]? script: (?:[0-9a-f]{40}, )?on @user_script:\d+\.?$")


def code_of(reply: Exception | str) -> str:
    """Return the code of an error reply that a client or a script caught; empty if it has none."""
    if isinstance(reply, RedisError):
        code = getattr(reply, "status_code", None)
        if code and code != "ERR":
            return str(code)
    text = _text(reply)
    if any(sign in text for sign in _NOT_A_NUMBER):
        return NOT_A_NUMBER
    found = _CODE.search(text)
    return found[1] if found else ""


def reason_with_advice(reply: Exception | str) -> str:
    """Return an error reply in one line, with what to do about it if that is known."""
    text = _PLACE_IN_SCRIPT.sub("", _text(reply)).removesuffix(".") or type(reply).__name__
    advice = _ADVICE.get(code_of(reply))
    return f"{text} ({advice})" if advice else text


def _text(reply: Exception | str) -> str:
    return _IN_PIPELINE.sub(r"\1", " ".join(str(reply).split()))
