"""One span for each batch, with its stages as children, by the SDK of OpenTelemetry."""

from collections import Counter
from collections.abc import Iterable, Mapping

from opentelemetry.trace import SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from peekaping_producer.clock import unix_ns
from peekaping_producer.observe.measures import Stage
from peekaping_producer.observe.outcomes import Outcome

_BATCH = "batch"
_CHECKS = "peekaping.checks"
_OUTCOME = "peekaping.outcome."


class BatchTrace:
    """The trace of one batch."""

    def __init__(self, tracer: Tracer, began_s: float) -> None:
        """Begin with the claim, by the monotonic clock."""
        self._tracer = tracer
        self._began_s, self._began_ns = began_s, unix_ns(began_s)
        self._span = tracer.start_span(_BATCH, kind=SpanKind.PRODUCER, start_time=self._began_ns)
        self._context = set_span_in_context(self._span)
        self._ended_s = began_s
        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers, self._context)
        self.headers: Mapping[str, str] = headers
        """The trace context of W3C: `traceparent`."""

    def stage(self, stage: Stage, began_s: float, ended_s: float) -> None:
        """Note a stage, by the monotonic clock."""
        span = self._tracer.start_span(stage.value, self._context, start_time=self._unix_ns(began_s))
        span.end(self._unix_ns(ended_s))
        self._ended_s = ended_s

    def end(self, outcomes: Iterable[Outcome]) -> None:
        """Note what became of the monitors; nothing if the batch could not be settled."""
        counts = Counter(outcomes)
        self._span.set_attribute(_CHECKS, counts.total())
        for outcome, times in counts.items():
            self._span.set_attribute(f"{_OUTCOME}{outcome.value}", times)
        if not counts:
            self._span.set_status(StatusCode.ERROR, "not settled")
        self._span.end(self._unix_ns(self._ended_s))

    def _unix_ns(self, at_s: float) -> int:
        """Return an instant of this batch; a step of the wall clock does not distort it."""
        return self._began_ns + round((at_s - self._began_s) * 1e9)
