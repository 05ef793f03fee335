"""From a monitor's snapshot to the health-check task a worker reads (docs/protocol.md, section 2)."""

import json
from typing import Final

from msgspec import UNSET, Struct, UnsetType
from msgspec.json import Encoder

from peekaping_producer.asynq.message import encode_task
from peekaping_producer.clock import ZERO_TIME, rfc3339
from peekaping_producer.model.monitor import Heartbeat, MonitorId, Proxy, Snapshot

_CERT_KEY: Final = "check_cert_expiry"
_encoder = Encoder()


class _ProxyPayload(Struct, frozen=True):
    id: str
    protocol: str
    host: str
    port: int
    auth: bool
    username: str | UnsetType
    password: str | UnsetType


class _HeartbeatPayload(Struct, frozen=True):
    id: str
    monitor_id: MonitorId
    status: int
    msg: str
    ping: int
    duration: int
    down_count: int
    retries: int
    important: bool
    time: str
    end_time: str
    notified: bool


class _Payload(Struct, frozen=True):
    monitor_id: MonitorId
    monitor_name: str
    monitor_type: str
    interval: int
    timeout: int
    max_retries: int
    retry_interval: int
    resend_interval: int
    config: str
    proxy: _ProxyPayload | UnsetType
    last_heartbeat: _HeartbeatPayload | UnsetType
    scheduled_at: str
    is_under_maintenance: bool
    check_cert_expiry: bool


def build_task(snapshot: Snapshot, scheduled_at: str, *, under_maintenance: bool) -> bytes:
    """Return the encoded task of one check.

    `scheduled_at` is the claim's instant, RFC 3339 in UTC: a worker drops what is older than 1.5 intervals.
    """
    monitor = snapshot.monitor
    payload = _Payload(
        monitor.id,
        monitor.name,
        monitor.type,
        monitor.interval,
        monitor.timeout,
        monitor.max_retries,
        monitor.retry_interval,
        monitor.resend_interval,
        monitor.config,
        _proxy(snapshot.proxy) if snapshot.proxy else UNSET,
        _heartbeat(snapshot.last_heartbeat) if snapshot.last_heartbeat else UNSET,
        scheduled_at,
        under_maintenance,
        wants_cert_expiry(monitor.type, monitor.config),
    )
    return encode_task(monitor.id, monitor.timeout, _encoder.encode(payload))


def stale_task(monitor_id: MonitorId) -> bytes:
    """Return a task that every worker drops without a result: its `scheduled_at` is long past.

    It takes the place of a pending task that must go, where the pending list is too long to search.
    """
    payload = {"monitor_id": monitor_id, "monitor_type": "http", "interval": 1, "scheduled_at": "1970-01-01T00:00:00Z"}
    return encode_task(monitor_id, 0, _encoder.encode(payload))


def wants_cert_expiry(monitor_type: str, config: str) -> bool:
    """Tell whether the check also looks at the certificate's expiry, reading `config` as Go's encoding/json does.

    The key is matched without case, the last one wins, and null keeps the earlier value. Go's decoder fails as a whole
    on a value that is neither, whatever stands before or after it (docs/protocol.md, section 2).
    """
    lowered = monitor_type.lower()
    if not (lowered.startswith("http") or lowered == "tcp"):
        return False
    if _CERT_KEY not in config.lower() and "\\u" not in config:
        return False
    try:
        fields = _decoder.decode(config)
    except (ValueError, RecursionError):
        return False
    wanted = False
    if isinstance(fields, _Fields):
        for key, value in fields.pairs:
            if key.lower() == _CERT_KEY and value is not None:
                if not isinstance(value, bool):
                    return False
                wanted = value
    return wanted


class _Fields:
    """A JSON object with its keys as often as they stand in the text."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        self.pairs = pairs


def _refuse(constant: str) -> None:
    """Refuse NaN and the infinities, which are Python's and no JSON."""
    raise ValueError(constant)


_decoder = json.JSONDecoder(object_pairs_hook=_Fields, parse_constant=_refuse, parse_int=str)


def _proxy(proxy: Proxy) -> _ProxyPayload:
    return _ProxyPayload(
        proxy.id,
        proxy.protocol,
        proxy.host,
        proxy.port,
        proxy.auth,
        proxy.username or UNSET,
        proxy.password or UNSET,
    )


def _heartbeat(beat: Heartbeat) -> _HeartbeatPayload:
    return _HeartbeatPayload(
        beat.id,
        beat.monitor_id,
        beat.status,
        beat.msg,
        beat.ping,
        beat.duration,
        beat.down_count,
        beat.retries,
        beat.important,
        rfc3339(beat.time),
        rfc3339(beat.end_time) if beat.end_time else ZERO_TIME,
        beat.notified,
    )
