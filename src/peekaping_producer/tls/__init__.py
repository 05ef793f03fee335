"""TLS to Redis and to the database: what a client needs for it, and what went wrong."""
