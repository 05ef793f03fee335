"""A collector of OpenTelemetry: takes spans by OTLP over HTTP, as binary protobuf."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.waiting import until


class Collector:
    """What it has been sent, and how it answers."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        """In lower case, of each request."""
        self.status = 200
        self.silent = False
        """Whether requests are taken and never answered."""
        self.ended = threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def batches(self) -> list[Span]:
        """The spans without a parent."""
        return [span for span in self.spans if not span.parent_span_id]

    def stages(self, batch: Span) -> list[Span]:
        """Return the children of a span, in the order of time."""
        children = [span for span in self.spans if span.parent_span_id == batch.span_id]
        return sorted(children, key=lambda span: span.start_time_unix_nano)

    async def until_whole(self) -> Span:
        """Wait for a batch with all its stages; return it."""
        whole: list[Span] = []

        def found() -> bool:
            whole[:] = [batch for batch in self.batches if len(self.stages(batch)) == 4]
            return bool(whole)

        await until(found, lambda: f"a whole batch; there are {[span.name for span in self.spans]}")
        return whole[0]

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        self.headers.append(headers)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({one.key: one.value.string_value for one in resource.resource.attributes})
            for scope in resource.scope_spans:
                self.spans += scope.spans


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """Run a collector for the duration of the block."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if collector.silent:
                collector.ended.wait()
                return
            if collector.status == 200 and self.path == "/v1/traces":
                collector.take(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as the library has it
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", port), Handler) as server:
        collector.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            collector.ended.set()
            server.shutdown()
            thread.join()
