"""Messages of Redis channels, on a connection that is pinged if it has been silent for long."""

from collections.abc import Callable, Sequence

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from peekaping_producer.errors import Unavailable
from peekaping_producer.redisdb.client import answered
from peekaping_producer.redisdb.pool import dropped_subscriptions, note_subscription
from peekaping_producer.timing import Timing


async def listen(
    redis: Redis,
    channels: Sequence[str],
    timing: Timing,
    on_message: Callable[[str, bytes], None],
    on_subscribed: Callable[[], None] = lambda: None,
) -> None:
    """Call `on_message` with each channel and data until cancelled. Messages from before `on_subscribed` are missed.

    Returns when the pool has dropped the connection, so that the caller subscribes to where Redis is now. Raises
    Unavailable if the connection is lost or no longer answers.
    """
    dropped = dropped_subscriptions(redis)
    try:
        await _listen(redis, channels, timing, on_message, on_subscribed)
    except Unavailable:
        if dropped_subscriptions(redis) == dropped:
            raise


async def _listen(
    redis: Redis,
    channels: Sequence[str],
    timing: Timing,
    on_message: Callable[[str, bytes], None],
    on_subscribed: Callable[[], None],
) -> None:
    async with redis.pubsub() as pubsub:
        async with answered(timing.redis_timeout_s):
            await pubsub.subscribe(*channels)
        note_subscription(redis, pubsub.connection)
        missing = len(channels)
        pinged = False
        while True:
            message = await _next(pubsub, timing.redis_timeout_s if pinged else timing.silence_s)
            if message is None:
                if pinged:
                    raise Unavailable("redis", "a subscription is silent and does not answer")
                async with answered(timing.redis_timeout_s):
                    await pubsub.ping()
                pinged = True
                continue
            pinged = False
            kind, channel, data = message
            if kind == "subscribe":
                missing -= 1
                if missing == 0:
                    on_subscribed()
            elif kind == "message":
                on_message(channel, data)


async def _next(pubsub: PubSub, within_s: float) -> tuple[str, str, bytes] | None:
    """Return the next message's kind, channel and data; None if there is none in time."""
    async with answered(within_s * 2):
        message = await pubsub.get_message(timeout=within_s)
    if message is None:
        return None
    channel, data = message["channel"] or b"", message["data"]
    return message["type"], channel.decode(errors="replace"), data if isinstance(data, bytes) else b""
