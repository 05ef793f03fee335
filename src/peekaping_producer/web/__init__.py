"""What a node serves by HTTP: probes, metrics, the page and its actions. Imported only if PRODUCER_HTTP_PORT is set."""
