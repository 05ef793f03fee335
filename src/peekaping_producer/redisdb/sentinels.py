"""The sentinels, which know where the primary is now."""

import asyncio
from collections.abc import Callable, Sequence

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError

from peekaping_producer.config.addresses import Address
from peekaping_producer.deadline import no_answer
from peekaping_producer.errors import one_line


class NoPrimary(ConnectionLost):
    """No sentinel names a primary. `refusals` has what each of them did instead, None for an unknown name."""

    def __init__(self, name: str, refusals: dict[Address, Exception | None]) -> None:
        """Take the primary's name, and what happened at each sentinel."""
        each = (f"{at}: {one_line(why) if why else 'it does not know that name'}" for at, why in refusals.items())
        super().__init__(f"no sentinel names the primary {name!r}: {'; '.join(each)}")
        self.refusals = refusals


class Sentinels:
    """Asked one after the other, first the one that answered last."""

    def __init__(
        self,
        addresses: Sequence[Address],
        name: str,
        connect: Callable[[Address], AbstractConnection],
        timeout_s: float,
    ) -> None:
        """Take the primary's name, what makes a connection, and the time limit of asking all of them."""
        self._addresses = list(addresses)
        self._name = name
        self._connect = connect
        # One that does not answer must leave time for the others, and for the primary itself.
        self._timeout_s = timeout_s / (len(addresses) + 1)

    async def primary(self) -> Address:
        """Return where the primary is. Raises NoPrimary if no sentinel says it."""
        refusals: dict[Address, Exception | None] = {}
        for sentinel in tuple(self._addresses):
            try:
                async with asyncio.timeout(self._timeout_s):
                    primary = await self._ask(sentinel)
            except TimeoutError:
                refusals[sentinel] = TimeoutError(no_answer(self._timeout_s))
            except (RedisError, OSError) as error:
                refusals[sentinel] = error
            else:
                if primary:
                    self._addresses.sort(key=lambda other: other != sentinel)
                    return primary
                refusals[sentinel] = None
        raise NoPrimary(self._name, refusals)

    def doubt(self) -> None:
        """Ask another sentinel first next time: what the last one said did not lead to a primary."""
        self._addresses.append(self._addresses.pop(0))

    async def _ask(self, sentinel: Address) -> Address | None:
        connection = self._connect(sentinel)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
            reply: list[bytes] | None = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
        return Address(reply[0].decode(), int(reply[1])) if reply else None
