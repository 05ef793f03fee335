"""The extra `otel`: a trace of each batch, sent to a collector of OpenTelemetry. Imported only if one is named."""
