"""A node's HTTP server, as a client sees it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from peekaping_producer.demo.redis_server import HOST
from support.waiting import until


class Client:
    """A client of one node."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, accept: str = "", if_none_match: str = "") -> httpx.Response:
        return await self._client.get(path, headers={"accept": accept, "if-none-match": if_none_match})

    async def post(self, path: str, form: Mapping[str, str] | bytes = b"", **headers: str) -> httpx.Response:
        """Send a form, or any body; `_` in the name of a header is `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(form, bytes):
            return await self._client.post(path, content=form, headers=named)
        return await self._client.post(path, data=form, headers=named)

    async def metrics(self) -> str:
        """Return the metrics as text."""
        return (await self.get("/metrics")).text

    async def sample(self, name: str, **labels: str) -> float | None:
        """Return the value of one sample of ours; None if it is missing."""
        named = ",".join(f'{label}="{value}"' for label, value in labels.items())
        start = f"peekaping_producer_{name}" + (f"{{{named}}} " if named else " ")
        values = [line.removeprefix(start) for line in (await self.metrics()).splitlines() if line.startswith(start)]
        return float(values[0]) if values else None

    async def until_sample(self, value: float, name: str, **labels: str) -> None:
        """Wait until a sample of ours has this value."""

        async def given() -> bool:
            return await self.sample(name, **labels) == value

        await until(given, f"{name} {labels} is {value}")

    async def until_text(self, path: str, words: str) -> None:
        """Wait until what is served at a path contains these words."""

        async def given() -> bool:
            answer = await self.get(path)
            return answer.status_code == 200 and words in answer.text

        await until(given, f"{path} contains {words!r}")

    async def reasons(self, probe: str) -> list[str]:
        """Return why a probe fails; empty if it does not."""
        answer = await self.get(probe)
        verdict = answer.json()
        assert answer.status_code == (200 if verdict["ok"] else 503)
        assert verdict["ok"] is not bool(verdict["reasons"])
        return list(verdict["reasons"])

    async def until_reason(self, probe: str, *beginnings: str) -> None:
        """Wait until a probe gives exactly these reasons, by their beginnings; without any, until it succeeds."""

        async def given() -> bool:
            reasons = await self.reasons(probe)
            return len(reasons) == len(beginnings) and all(map(str.startswith, reasons, beginnings))

        await until(given, f"{probe}: {beginnings}")


@asynccontextmanager
async def client_of(port: int, host: str = HOST) -> AsyncIterator[Client]:
    """Connect to a node of this machine, as soon as it serves."""

    async def served() -> bool:
        try:
            return (await client.get("/livez")).status_code > 0
        except httpx.TransportError:
            return False

    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False, verify=False, timeout=30) as client:
        await until(served, "a node serves HTTP")
        yield Client(client)
