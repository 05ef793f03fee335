"""From a monitor's snapshot to the health-check task a worker reads (docs/protocol.md, section 2)."""

import json
from collections.abc import Mapping
from typing import Final

from msgspec import UNSET, Struct, UnsetType
from msgspec.json import Decoder, Encoder

from peekaping_producer.asynq.message import encode_task
from peekaping_producer.clock import ZERO_TIME, rfc3339
from peekaping_producer.model.monitor import Heartbeat, MonitorId, Proxy, Snapshot

_CERT_KEY: Final = "check_cert_expiry"
_encoder = Encoder()


class _Payload(Struct, frozen=True, gc=False):
    """The payload, in the order of its keys; one that is UNSET is left out."""

    monitor_id: MonitorId
    monitor_name: str
    monitor_type: str
    interval: int
    timeout: int
    max_retries: int
    retry_interval: int
    resend_interval: int
    config: str
    proxy: dict[str, object] | UnsetType
    last_heartbeat: dict[str, object] | UnsetType
    scheduled_at: str
    is_under_maintenance: bool
    check_cert_expiry: bool


def build_task(
    snapshot: Snapshot, scheduled_at: str, *, under_maintenance: bool, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the encoded task of one check.

    `scheduled_at` is the claim's instant, RFC 3339 in UTC: a worker drops what is older than 1.5 intervals.
    """
    monitor, proxy, heartbeat = snapshot.monitor, snapshot.proxy, snapshot.last_heartbeat
    payload = _Payload(
        monitor_id=monitor.id,
        monitor_name=monitor.name,
        monitor_type=monitor.type,
        interval=monitor.interval,
        timeout=monitor.timeout,
        max_retries=monitor.max_retries,
        retry_interval=monitor.retry_interval,
        resend_interval=monitor.resend_interval,
        config=monitor.config,
        proxy=_proxy(proxy) if proxy else UNSET,
        last_heartbeat=_heartbeat(heartbeat) if heartbeat else UNSET,
        scheduled_at=scheduled_at,
        is_under_maintenance=under_maintenance,
        check_cert_expiry=wants_cert_expiry(monitor.type, monitor.config),
    )
    return encode_task(monitor.id, monitor.timeout, _encoder.encode(payload), headers)


def stale_task(monitor_id: MonitorId) -> bytes:
    """Return a task that every worker drops without a result: its `scheduled_at` is long past.

    It takes the place of a pending task that must go, where the pending list is too long to search.
    """
    payload = {"monitor_id": monitor_id, "monitor_type": "http", "interval": 1, "scheduled_at": "1970-01-01T00:00:00Z"}
    return encode_task(monitor_id, 0, _encoder.encode(payload))


def wants_cert_expiry(monitor_type: str, config: str) -> bool:
    """Return whether the check includes the certificate's expiry, reading `config` as Go's encoding/json does.

    The key is matched without case, the last one wins, and null keeps the earlier value. On a value that is neither a
    bool nor null, Go's decoder fails as a whole (docs/protocol.md, section 2).
    """
    lowered = monitor_type.lower()
    if not (lowered.startswith("http") or lowered == "tcp"):
        return False
    try:
        return _cert_flag(config)
    except (ValueError, RecursionError):
        return False


def _cert_flag(config: str) -> bool:
    """Return the flag. Raises ValueError or RecursionError if the config cannot be decoded."""
    spelled, escapes = config.lower().count(_CERT_KEY), "\\u" in config
    if not spelled and not escapes:
        return False
    if spelled == 1 and not escapes and _CERT_KEY in config:
        # The usual case: neither repeated nor in another spelling.
        return _decode_flag(config).check_cert_expiry is True
    fields = _decoder.decode(config)
    wanted = False
    if isinstance(fields, _Fields):
        for key, value in fields.pairs:
            if key.lower() == _CERT_KEY and value is not None:
                if not isinstance(value, bool):
                    return False
                wanted = value
    return wanted


class _Flag(Struct, gc=False):
    check_cert_expiry: bool | None = None


_decode_flag = Decoder(_Flag).decode


class _Fields:
    """A JSON object that keeps repeated keys."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        self.pairs = pairs


def _refuse(constant: str) -> None:
    """Refuse NaN and the infinities, which Python allows and JSON does not."""
    raise ValueError(constant)


_decoder = json.JSONDecoder(object_pairs_hook=_Fields, parse_constant=_refuse, parse_int=str)


def _proxy(proxy: Proxy) -> dict[str, object]:
    payload: dict[str, object] = {
        "id": proxy.id,
        "protocol": proxy.protocol,
        "host": proxy.host,
        "port": proxy.port,
        "auth": proxy.auth,
    }
    if proxy.username:
        payload["username"] = proxy.username
    if proxy.password:
        payload["password"] = proxy.password
    return payload


def _heartbeat(beat: Heartbeat) -> dict[str, object]:
    return {
        "id": beat.id,
        "monitor_id": beat.monitor_id,
        "status": beat.status,
        "msg": beat.msg,
        "ping": beat.ping,
        "duration": beat.duration,
        "down_count": beat.down_count,
        "retries": beat.retries,
        "important": beat.important,
        "time": rfc3339(beat.time),
        "end_time": rfc3339(beat.end_time) if beat.end_time else ZERO_TIME,
        "notified": beat.notified,
    }
