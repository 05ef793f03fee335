"""What Redis' error codes mean: which say that this server can't serve us, and what an operator can do about each."""

import re

from redis.exceptions import RedisError

NOT_A_NUMBER = "NOTANUMBER"
CANNOT_SERVE = frozenset({"READONLY", "MASTERDOWN", "LOADING", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN"})
"""Replies of a server that is not, or not yet, the one to use: the next connection may lead to another."""
REFUSALS = CANNOT_SERVE | {"OOM", "MISCONF", "NOPERM", "NOAUTH", "WRONGPASS", "WRONGTYPE", "BUSY", NOT_A_NUMBER}
"""Replies that are not about one record: what is refused now may work later, unchanged."""
DAMAGED = frozenset({"WRONGTYPE", NOT_A_NUMBER})
"""A key holds what it should not."""

_ADVICE = {
    "READONLY": "this server is a replica: make REDIS_HOST lead to the primary",
    "MASTERDOWN": "this server is a replica that has lost its primary: make REDIS_HOST lead to the primary",
    "LOADING": "it is still reading its data from disk: wait",
    "NOREPLICAS": "too few replicas are connected: see min-replicas-to-write",
    "OOM": "Redis has used all of maxmemory: raise it, or free memory; maxmemory-policy should be noeviction",
    "WRONGTYPE": "a key holds another type than it should: Peekaping's own are renamed by the producer, asynq's must"
    " be renamed by hand",
    NOT_A_NUMBER: "a counter of Peekaping's holds something else: it is renamed by the producer",
    "NOPERM": "the Redis user lacks a right: grant it by ACL",
    "NOAUTH": "Redis wants a password: set REDIS_PASSWORD and start the producer again",
    "WRONGPASS": "Redis has another password: set the right REDIS_PASSWORD and start the producer again",
    "MISCONF": "Redis can't save its data and so refuses writes: see its log; free disk space, or make its folder"
    " writable",
    "BUSY": "a script of somebody's has been running for long: SCRIPT KILL ends it",
}
_CODE = re.compile(r"(?:^|-)([A-Z]{2,})(?= )")
"""At the start; behind a dash where Redis before 7 wraps the error of a script's command."""
_IN_PIPELINE = re.compile(r"^Command # \d+ .* of pipeline caused error: \(?['\"]?(.*?)['\"]?,?\)?$")
"""So redis-py wraps it."""
_NOT_A_NUMBER = ("value is not an integer", "increment or decrement would overflow")
_PLACE_IN_SCRIPT = re.compile(r"[.,]? script: (?:[0-9a-f]{40}, )?on @user_script:\d+\.?$")


def code_of(reply: Exception | str) -> str:
    """Return the code of an error reply, as a client or a script caught it; empty where it has none."""
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
    """Return an error reply in one line, with what to do about it where that is known."""
    text = _PLACE_IN_SCRIPT.sub("", _text(reply)).removesuffix(".") or type(reply).__name__
    advice = _ADVICE.get(code_of(reply))
    return f"{text} ({advice})" if advice else text


def _text(reply: Exception | str) -> str:
    return _IN_PIPELINE.sub(r"\1", " ".join(str(reply).split()))
