"""What a node serves by HTTP: probes, metrics and actions. Imported only if PRODUCER_HTTP_PORT is set."""
