"""What a node serves over HTTP: probes, metrics, the page and its actions. Imported only if its port is set."""
