"""A health check as the task message asynq's servers read (docs/protocol.md, section 2)."""

from collections.abc import Mapping

from peekaping_producer.asynq.keys import QUEUE
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.model.monitor import MonitorId

TASK_TYPE = "monitor:healthcheck"
TIMEOUT_MARGIN_S = 10
"""Added to a monitor's timeout, so that the executor's own timeout comes first. If both were equal, the task of a
target that hangs could be archived, and with retry 0 an archived task blocks its monitor for hours."""


def task_id(monitor_id: MonitorId) -> str:
    """Return the id of a monitor's task: always the same, so that two checks of it are never pending."""
    return f"healthcheck:{monitor_id}"


def encode_task(
    monitor_id: MonitorId, timeout_s: int, payload: bytes, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the bytes of a task message: retry and retention 0, no unique key. Older workers ignore the headers.

    asynq would take a timeout of 0 for its default of half an hour; the margin keeps it above 0.
    """
    message = TaskMessage(headers=headers) if headers else TaskMessage()
    # Attribute by attribute takes three quarters of the time of keywords.
    message.type = TASK_TYPE
    message.payload = payload
    message.id = task_id(monitor_id)
    message.queue = QUEUE
    message.timeout = max(0, timeout_s) + TIMEOUT_MARGIN_S
    return message.SerializeToString()
