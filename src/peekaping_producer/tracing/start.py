"""Traces batches for the duration of a block, if traces are wanted and possible."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from peekaping_producer.hidden import show
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.tracing.wanted import endpoint, unknown_protocol


@asynccontextmanager
async def tracing(node: Node) -> AsyncIterator[None]:
    """Send traces as the variables of OpenTelemetry say; if that is not possible, log why, and go on."""
    async with AsyncExitStack() as stack:
        address = endpoint(os.environ)
        if address and (reason := await _started(node, address, stack)):
            node.log.warning(LogEvent.TRACES_NOT_STARTED, reason=reason)
        yield


async def _started(node: Node, address: str, stack: AsyncExitStack) -> str | None:
    """Start; return why that is not possible."""
    if protocol := unknown_protocol(os.environ):
        return f"the protocol {protocol} is not supported, only http/protobuf"
    show("opentelemetry")
    try:
        from peekaping_producer.tracing.export import exporting  # noqa: PLC0415 - an extra
    except ImportError:
        return "OpenTelemetry is not installed: pip install 'peekaping-producer[otel]'"
    try:
        await stack.enter_async_context(exporting(node, address))
    except ValueError:
        return "a variable that begins with OTEL_ has a value that OpenTelemetry refuses"
    return None
