"""Events, task messages and payloads of any bytes."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fuzz.garbage import SECRET, examples, json_values, texts
from peekaping_producer.asynq import queue
from peekaping_producer.asynq.payload import wants_cert_expiry
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.errors import CorruptRecord
from peekaping_producer.leader.event_message import CREATED, DELETED, STATUS_CHANGED, UPDATED, Event, read_event
from peekaping_producer.model.ids import is_monitor_id

ID = "11111111-1111-4111-8111-111111111111"
channels = st.sampled_from([CREATED, UPDATED, DELETED, STATUS_CHANGED])
ids = st.sampled_from([ID, ID.upper(), "a" * 24, f" {ID}", f"{ID}\n", SECRET]) | json_values
rows = st.fixed_dictionaries({}, optional={"id": ids, "active": json_values, "config": st.just(SECRET)}) | json_values
beats = st.fixed_dictionaries({}, optional={"monitor_id": ids, "status": json_values})
events = st.fixed_dictionaries({}, optional={"type": texts, "payload": rows | beats | ids}) | json_values
deep = st.integers(1, 100_000).map(lambda depth: b'{"payload":' + b"[" * depth)
"""More levels than a decoder may go down."""


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def check_reason(reason: str) -> None:
    assert "\n" not in reason
    assert SECRET not in reason


@given(channels, st.binary(max_size=60) | deep | events.map(encoded))
@examples(60)
def test_an_event_names_a_monitor_or_is_refused_in_one_line(channel: str, data: bytes) -> None:
    try:
        event = read_event(channel, data)
    except CorruptRecord as error:
        check_reason(error.reason)
    else:
        assert event is None or (isinstance(event, Event) and is_monitor_id(event.monitor_id))


payloads = (
    st.binary(max_size=60)
    | deep
    | st.fixed_dictionaries({}, optional={"monitor_id": json_values, "interval": json_values}).map(encoded)
)
messages = st.binary(max_size=80) | payloads.map(lambda payload: TaskMessage(payload=payload).SerializeToString())
since = st.none() | st.binary(max_size=30) | st.integers(-(2**70), 10**40).map(lambda ns: str(ns).encode())


@given(messages | st.none(), since)
@examples(60)
def test_the_oldest_task_is_read_or_counts_as_unreadable(message: bytes | None, since_ns: bytes | None) -> None:
    waiting = queue._waiting(since_ns, message, 1_700_000_000)
    assert waiting is None or (isinstance(waiting.monitor_id, str) and isinstance(waiting.interval_s, int))
    assert waiting is None or waiting.age_s >= 0


@given(st.binary(max_size=80))
@examples(60)
def test_the_record_of_an_asynq_server_is_read_or_counts_as_that_of_another_queue(info: bytes) -> None:
    assert queue._serves(info) in (True, False)


configs = (
    st.text(max_size=40)
    | json_values.map(json.dumps)
    | st.dictionaries(
        st.sampled_from(["check_cert_expiry", "CHECK_CERT_EXPIRY", "check_cert_e\u017fpiry", "x"]), json_values
    ).map(json.dumps)
)


@given(st.sampled_from(["http", "HTTP-keyword", "tcp", "push", ""]), configs | st.integers(1, 100_000).map("[".__mul__))
@examples(60)
def test_a_config_asks_for_the_certificates_expiry_or_does_not(monitor_type: str, config: str) -> None:
    assert wants_cert_expiry(monitor_type, config) in (True, False)
