"""What a node serves by HTTP: probes and metrics. Imported only if PRODUCER_HTTP_PORT is set."""
