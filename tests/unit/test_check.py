"""From a snapshot to the task a worker reads: its keys and their forms (docs/protocol.md, section 2)."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekaping_producer.asynq.payload import build_task, stale_task, wants_cert_expiry
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.clock import from_unix_ms, rfc3339
from peekaping_producer.model.monitor import Heartbeat, Maintenance, Monitor, MonitorId, Proxy, Snapshot

ID = MonitorId("b8a04f21-6b2a-4c8a-b457-0e5c0940986d")
MONITOR = Monitor(
    id=ID,
    name="front page",
    type="http",
    interval=60,
    timeout=16,
    max_retries=2,
    retry_interval=20,
    resend_interval=0,
    active=True,
    config='{"url": "https://example.org"}',
    proxy_id=None,
)
PROXY = Proxy(id="p", protocol="socks5", host="proxy", port=1080, auth=True, username="me", password="hush")
BEAT = Heartbeat(
    id="h",
    monitor_id=ID,
    status=1,
    msg="OK",
    ping=12,
    duration=0,
    down_count=0,
    retries=0,
    important=True,
    time=datetime(2026, 1, 2, 3, 4, 5, 120_000, tzinfo=UTC),
    end_time=None,
    notified=False,
)
AT = "2026-11-24T03:14:48.359Z"


def snapshot(proxy: Proxy | None = None, heartbeat: Heartbeat | None = None, **changes: Any) -> Snapshot:
    return Snapshot(msgspec.structs.replace(MONITOR, **changes), proxy, (), heartbeat)


def message(encoded: bytes) -> TaskMessage:
    return TaskMessage.FromString(encoded)


def payload(of: Snapshot, *, under_maintenance: bool = False) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(message(build_task(of, AT, under_maintenance=under_maintenance)).payload)
    return parsed


def test_the_payload_of_a_plain_check() -> None:
    assert payload(snapshot()) == {
        "monitor_id": ID,
        "monitor_name": "front page",
        "monitor_type": "http",
        "interval": 60,
        "timeout": 16,
        "max_retries": 2,
        "retry_interval": 20,
        "resend_interval": 0,
        "config": '{"url": "https://example.org"}',
        "scheduled_at": AT,
        "is_under_maintenance": False,
        "check_cert_expiry": False,
    }


def test_the_message_around_it() -> None:
    task = message(build_task(snapshot(), AT, under_maintenance=False))
    fields = {field.name: value for field, value in task.ListFields() if field.name != "payload"}
    assert fields == {
        "type": "monitor:healthcheck",
        "id": f"healthcheck:{ID}",
        "queue": "healthcheck",
        "timeout": 26,
    }


@pytest.mark.parametrize(("timeout_s", "allowed_s"), [(-5, 10), (0, 10), (1, 11), (2**31 - 1, 2**31 + 9)])
def test_asynq_waits_longer_than_the_check(timeout_s: int, allowed_s: int) -> None:
    of = snapshot(timeout=timeout_s)
    assert message(build_task(of, AT, under_maintenance=False)).timeout == allowed_s
    assert payload(of)["timeout"] == timeout_s


def test_the_payload_says_whether_it_is_under_maintenance() -> None:
    assert payload(snapshot(), under_maintenance=True)["is_under_maintenance"] is True


def test_maintenances_are_not_in_the_payload() -> None:
    window = Maintenance("m", True, "manual", None, None, None, None, None, None, None, None)
    assert payload(Snapshot(MONITOR, None, (window,), None)) == payload(snapshot())


@pytest.mark.parametrize(
    ("username", "password", "credentials"),
    [
        ("me", "hush", {"username": "me", "password": "hush"}),
        ("me", "", {"username": "me"}),
        ("", "hush", {"password": "hush"}),
        ("", "", {}),
    ],
)
@pytest.mark.parametrize("auth", [True, False])
def test_a_proxys_empty_credentials_are_absent(
    username: str, password: str, credentials: dict[str, str], auth: bool
) -> None:
    proxy = msgspec.structs.replace(PROXY, username=username, password=password, auth=auth)
    assert payload(snapshot(proxy))["proxy"] == {
        "id": "p",
        "protocol": "socks5",
        "host": "proxy",
        "port": 1080,
        "auth": auth,
        **credentials,
    }


def test_a_heartbeat_has_all_its_keys_and_a_null_end_is_gos_zero_time() -> None:
    assert payload(snapshot(heartbeat=BEAT, type="push"))["last_heartbeat"] == {
        "id": "h",
        "monitor_id": ID,
        "status": 1,
        "msg": "OK",
        "ping": 12,
        "duration": 0,
        "down_count": 0,
        "retries": 0,
        "important": True,
        "time": "2026-01-02T03:04:05.12Z",
        "end_time": "0001-01-01T00:00:00Z",
        "notified": False,
    }


def test_a_heartbeats_end_keeps_its_microseconds() -> None:
    beat = msgspec.structs.replace(BEAT, end_time=datetime(2026, 1, 2, 3, 4, 5, 1, tzinfo=UTC))
    assert payload(snapshot(heartbeat=beat))["last_heartbeat"]["end_time"] == "2026-01-02T03:04:05.000001Z"


@pytest.mark.parametrize(
    ("unix_ms", "text"),
    [
        (1_700_000_000_000, "2023-11-14T22:13:20Z"),
        (1_700_000_000_120, "2023-11-14T22:13:20.12Z"),
        (1_700_000_000_100, "2023-11-14T22:13:20.1Z"),
        (1_700_000_000_001, "2023-11-14T22:13:20.001Z"),
        (1_700_000_000_999, "2023-11-14T22:13:20.999Z"),
        (0, "1970-01-01T00:00:00Z"),
    ],
)
def test_an_instant_has_no_trailing_zeros_in_its_fraction(unix_ms: int, text: str) -> None:
    assert rfc3339(from_unix_ms(unix_ms)) == text


@pytest.mark.parametrize("text", ["", "null", "[1]", "not JSON", '{"a":  1}', "é\u2028<&>", "12.5", '"q"'])
def test_a_config_goes_out_as_it_is(text: str) -> None:
    assert payload(snapshot(config=text))["config"] == text


@pytest.mark.parametrize("type_", ["http", "HTTP", "http-keyword", "https", "httpfoo", "tcp", "TCP"])
def test_types_that_may_check_the_certificate(type_: str) -> None:
    assert wants_cert_expiry(type_, '{"check_cert_expiry": true}')


@pytest.mark.parametrize("type_", ["", "tcp2", "tc", "xhttp", "push", "ping", "dns", " http"])
def test_types_that_do_not(type_: str) -> None:
    assert not wants_cert_expiry(type_, '{"check_cert_expiry": true}')


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ('{"check_cert_expiry": true}', True),
        ('{"check_cert_expiry": false}', False),
        ('{"CHECK_Cert_expiry": true}', True),
        ('{"chec\u212a_cert_expiry": true}', True),
        (r'{"check\u005fcert_expiry": true}', True),
        ('{"check_cert_expiry": false, "Check_Cert_Expiry": true}', True),
        ('{"check_cert_expiry": true, "Check_Cert_Expiry": false}', False),
        ('{"check_cert_expiry": true, "check_cert_expiry": null}', True),
        ('{"check_cert_expiry": null}', False),
        ('{"check_cert_expiry": 1, "Check_cert_expiry": true}', False),
        ('{"check_cert_expiry": true, "check_cert_expiry": "no", "x": 1, "check_cert_expiry": true}', False),
        ('{"x": {"check_cert_expiry": 1}, "check_cert_expiry": true}', True),
        ('{"check_cert_expiry": 1}', False),
        ('{"check_cert_expiry": "true"}', False),
        ('{"check_cert_expiry": [true]}', False),
        ('{"check_cert_expiry": {"check_cert_expiry": true}}', False),
        ('{"inner": {"check_cert_expiry": true}}', False),
        ('{"inner": {"check_cert_expiry": true}, "check_cert_expiry": false}', False),
        ('[{"check_cert_expiry": true}]', False),
        ('"check_cert_expiry"', False),
        ("null", False),
        ("", False),
        ("check_cert_expiry", False),
        ('{"check_cert_expiry": true', False),
        ('{"check_cert_expiry": true} more', False),
        ('{"check_cert_expiry": true, "n": NaN}', False),
        ('{"check_cert_expiry": true, "n": -Infinity}', False),
        ('{"check_cert_expiry": true, "n": 1' + "0" * 5_000 + "}", True),
        ('{"check_cert_expiry": true, "deep": ' + "[" * 100_000 + "]" * 100_000 + "}", False),
    ],
)
def test_the_certificate_flag_is_read_as_go_reads_it(config: str, wanted: bool) -> None:
    assert wants_cert_expiry("http", config) is wanted


CERT_KEY = "check_cert_expiry"
OTHER_SPELLINGS = {"k": ["K", "\u212a"]}
"""Besides upper case, what Go folds to the same letter: of these letters, only k has a third form."""
NEAR_MISSES = ["check_cert_expir", "check_cert_expiry ", "check-cert-expiry", "check_cert_exp\u0131ry"]


@st.composite
def json_texts(draw: st.DrawFn, text: str) -> str:
    """Write a string as JSON: each character as it is, or escaped."""
    return '"' + "".join(draw(st.sampled_from([json.dumps(c)[1:-1], f"\\u{ord(c):04x}"])) for c in text) + '"'


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """Spell the key in a way that Go treats as equal."""
    return "".join(draw(st.sampled_from([c, c.upper(), *OTHER_SPELLINGS.get(c, [])])) for c in CERT_KEY)


FLAG_VALUES = st.sampled_from(["true", "false", "null"]) | st.sampled_from(
    ["1", "0", "1.5", '"true"', '""', "[]", "[true]", "{}", f'{{"{CERT_KEY}": true}}']
)
FLAGS = st.tuples(spellings(), st.sampled_from(["true", "false", "null"]) | FLAG_VALUES)
OTHERS = st.tuples(
    st.sampled_from(NEAR_MISSES) | st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF), max_size=5),
    st.sampled_from(["true", "1", f'{{"{CERT_KEY}": 1}}', f'[{{"{CERT_KEY}": true}}]', f'"{CERT_KEY}"']),
)


def rule(flag_values: list[str]) -> bool:
    """Apply docs/protocol.md, section 2.2, to the values of all spellings of the key, in their order."""
    if any(value not in {"true", "false", "null"} for value in flag_values):
        return False
    said = [value for value in flag_values if value != "null"]
    return said[-1:] == ["true"]


@given(st.data(), st.lists(FLAGS | OTHERS, max_size=6), st.sampled_from(["", " ", "\n\t"]))
def test_the_flag_of_any_config_follows_the_rule(
    data: st.DataObject, members: list[tuple[str, str]], space: str
) -> None:
    texts = [f"{data.draw(json_texts(key))}{space}:{space}{value}" for key, value in members]
    config = space + "{" + f"{space},{space}".join(texts) + "}" + space
    flag_values = [value for key, value in members if key.lower().replace("\u212a", "k") == CERT_KEY]
    assert wants_cert_expiry("http", config) is rule(flag_values)


def test_the_flag_is_in_the_payload() -> None:
    config = '{"check_cert_expiry": true}'
    assert payload(snapshot(config=config))["check_cert_expiry"] is True
    assert payload(snapshot(config=config, type="push"))["check_cert_expiry"] is False


def test_a_stale_task_is_too_old_for_any_worker() -> None:
    task = message(stale_task(ID))
    body = json.loads(task.payload)
    age = datetime.now(UTC) - datetime.fromisoformat(body["scheduled_at"])
    assert age > timedelta(seconds=body["interval"] * 1.5)
    assert age > timedelta(days=365 * 50)
    assert (task.id, task.queue, task.type) == (f"healthcheck:{ID}", "healthcheck", "monitor:healthcheck")
    assert task.timeout > 0
    assert (body["monitor_id"], bool(body["monitor_type"])) == (ID, True)
