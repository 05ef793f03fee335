"""The connection to Redis: its client, keys, subscriptions, and what error replies mean."""
