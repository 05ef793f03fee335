"""A real Prometheus for tests, where it is installed, configured as docs/metrics.md says."""

import re
import shutil
from pathlib import Path

import httpx
import yaml

from support.server_process import HOST, ServerProcess
from support.waiting import until

_ROOT = Path(__file__).parents[2]
_RULES = _ROOT / "deploy" / "prometheus" / "rules.yml"
_PROGRAM = shutil.which("prometheus")
TARGET = "127.0.0.1:8035"
"""The node that the docs' example names."""


def configuration(target: str) -> str:
    """Return prometheus.yml: the example of the docs with this node as its target, read and judged each second."""
    docs = (_ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n# prometheus.yml\n(.*?)```", docs, re.DOTALL)
    assert example.count(TARGET) == 1
    whole = yaml.safe_load(example.replace(TARGET, target))
    return yaml.safe_dump(whole | {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}})


def impatient_rules() -> str:
    """Return rules.yml with every `for:` shortened to a second; nothing else is changed."""
    return re.sub(r"(?m)^( +for:) \w+$", r"\1 1s", _RULES.read_text(encoding="utf-8"))


class Prometheus(ServerProcess):
    """One Prometheus that scrapes one node and judges the alerts of deploy/."""

    name = "Prometheus"

    def __init__(self, target: str) -> None:
        super().__init__()
        self._target = target

    def _prepare(self) -> None:
        (self.folder / "prometheus.yml").write_text(configuration(self._target))
        (self.folder / "rules.yml").write_text(impatient_rules())

    def _command(self) -> list[str]:
        assert _PROGRAM is not None
        options = {"config.file": "prometheus.yml", "storage.tsdb.path": "data", "log.level": "warn"}
        options |= {"web.listen-address": f"{HOST}:{self.port}"}
        return [_PROGRAM, *(f"--{name}={value}" for name, value in options.items())]

    def _answers(self) -> bool:
        try:
            answer = httpx.get(f"http://{HOST}:{self.port}/-/ready", trust_env=False, verify=False, timeout=1)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    async def _asked(self, path: str, **parameters: str) -> dict[str, object]:
        async with httpx.AsyncClient(base_url=f"http://{HOST}:{self.port}", trust_env=False, verify=False) as client:
            answer = (await client.get(f"/api/v1/{path}", params=parameters)).json()
        assert answer["status"] == "success", answer
        found: dict[str, object] = answer["data"]
        return found

    async def firing(self) -> dict[str, dict[str, str]]:
        """Return the annotations of the alerts that fire, by name."""
        alerts = (await self._asked("alerts"))["alerts"]
        assert isinstance(alerts, list)
        return {one["labels"]["alertname"]: one["annotations"] for one in alerts if one["state"] == "firing"}

    async def until_firing(self, alert: str) -> dict[str, str]:
        """Wait until an alert fires; return its annotations."""
        fires: dict[str, dict[str, str]] = {}

        async def found() -> bool:
            fires.clear()
            fires.update(await self.firing())
            return alert in fires

        await until(found, lambda: f"{alert} fires; these do: {list(fires)}", 60)
        return fires[alert]

    async def until_quiet(self) -> None:
        """Wait until it has scraped the node and no alert fires."""

        async def quiet() -> bool:
            scraped = (await self._asked("query", query='up{job="peekaping-producer"} == 1'))["result"]
            fires[:] = await self.firing()
            return bool(scraped) and not fires

        fires: list[str] = []
        await until(quiet, lambda: f"no alert fires; these do: {fires}", 60)

    async def until_over(self, alert: str) -> None:
        """Wait until an alert fires no more. Others may fire for longer, for example the one for missed checks."""

        async def over() -> bool:
            return alert not in await self.firing()

        await until(over, f"{alert} is over", 60)
