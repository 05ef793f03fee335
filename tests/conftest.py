"""What every test has: real servers to ask for, and checks that it leaves nothing behind."""

pytest_plugins = [
    "support.redis_fixtures",
    "support.leaks",
    "support.database_fixtures",
    "support.asynq_peer",
]
