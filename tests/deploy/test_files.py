"""The files of deploy/ are valid, and agree with each other and with what Peekaping's own files expect."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from peekaping_producer import __version__
from support.container import ROOT, Dockerfile

pytestmark = pytest.mark.image
DEPLOY = ROOT / "deploy"
COMPOSE_GO = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
"""Reads compose files as Docker Compose does."""
PEEKAPING = """
networks:
  appnet:
services:
  redis:
    image: redis:7
    networks: [appnet]
  producer:
    image: 0xfurai/peekaping-producer:latest
    restart: unless-stopped
    env_file: [.env]
    volumes: ["./.data/sqlite:/app/data"]
    depends_on:
      redis: {condition: service_started}
    networks: [appnet]
"""
"""What Peekaping's compose file for SQLite says of its producer."""
CHART = {"replicaCount", "image.repository", "image.tag", "resources.requests.cpu", "resources.requests.memory"}
CHART |= {"resources.limits.cpu", "resources.limits.memory"}
"""The values that Peekaping's chart reads for its producer, and that may differ here."""
DOCKERFILE = Dockerfile()
HTTP = {"PRODUCER_HTTP_HOST": "0.0.0.0", "PRODUCER_HTTP_PORT": "8035"}


def run(command: Sequence[str], folder: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / path).read_text(encoding="utf-8")))


# --- the images


@pytest.mark.parametrize("path", ["docker/Dockerfile", "docker/bundle/Dockerfile"])
def test_a_dockerfile_has_no_known_fault(path: str) -> None:
    run([str(Path(sys.executable).parent / "hadolint"), path], DEPLOY)


@pytest.mark.parametrize("path", ["docker/build.sh", "docker/bundle/producer"])
def test_a_script_is_valid(path: str) -> None:
    run(["sh", "-n", str(DEPLOY / path)])
    assert os.access(DEPLOY / path, os.X_OK)


def test_the_tools_of_the_build_are_those_of_the_lock() -> None:
    tools = [str(Path(sys.executable).parent / "uv"), "export", "--quiet", "--frozen", "--only-group", "image-build"]
    tools += ["--no-emit-project", "--format", "requirements-txt", "--no-annotate", "--no-header"]
    assert run(tools) == (DEPLOY / "docker" / "build-requirements.txt").read_text(encoding="utf-8")


def test_the_image_runs_as_the_charts_user_in_the_folder_of_the_go_producer() -> None:
    assert (DOCKERFILE.one("USER"), DOCKERFILE.one("WORKDIR")) == ("10001:10001", "/app")
    assert DOCKERFILE.command == ["peekaping-producer", "run"]


def test_the_image_serves_http() -> None:
    assert HTTP.items() <= DOCKERFILE.environment.items()
    assert DOCKERFILE.one("EXPOSE") == HTTP["PRODUCER_HTTP_PORT"]


# --- Compose


@pytest.mark.parametrize("files", [["producer.yml"], ["producer.yml", "producer.sqlite.yml"]], ids=["any", "sqlite"])
def test_the_override_swaps_the_image_in_peekapings_compose_project(files: list[str], tmp_path: Path) -> None:
    merged = merged_into_peekapings(tmp_path, [str(DEPLOY / "compose" / file) for file in files])
    producer = merged["services"]["producer"]
    assert "ports" not in producer
    assert producer["image"] == f"peekaping-producer:{__version__}"
    assert producer["healthcheck"]["test"] == ["CMD", *DOCKERFILE.probe]
    assert (producer["read_only"], producer["stop_grace_period"]) == (True, "15s")
    assert producer.get("user") == ("0:0" if len(files) > 1 else None)
    # The rest is as Peekaping has it.
    assert producer["restart"] == "unless-stopped"
    assert producer["env_file"][0]["path"].endswith("/.env")
    assert producer["volumes"][0]["target"] == "/app/data"
    assert merged["services"].keys() == {"redis", "producer"}


def test_the_port_that_the_override_has_in_a_comment_is_that_of_this_host_alone(tmp_path: Path) -> None:
    override = (DEPLOY / "compose" / "producer.yml").read_text(encoding="utf-8")
    (tmp_path / "producer.yml").write_text(override.replace("# ports:", "ports:"))
    merged = merged_into_peekapings(tmp_path, ["producer.yml"])
    (port,) = merged["services"]["producer"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "8035", 8035)


def merged_into_peekapings(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Return Peekaping's compose project with these files over its own."""
    (folder / "docker-compose.yml").write_text(PEEKAPING)
    (folder / ".env").touch()
    merged: dict[str, Any] = yaml.safe_load(run(["go", "run", COMPOSE_GO, "docker-compose.yml", *overrides], folder))
    return merged


# --- Kubernetes


@pytest.mark.parametrize("version", ["1.27", "latest"])
def test_the_manifests_are_valid(version: str) -> None:
    import kubernetes_validate  # only `make image` installs it

    manifests = read("kubernetes/producer.yaml")
    assert [manifest["kind"] for manifest in manifests] == ["Deployment", "PodDisruptionBudget"]
    for manifest in manifests:
        kubernetes_validate.validate(
            manifest, kubernetes_validate.latest_version() if version == "latest" else version, strict=True
        )


def test_the_manifests_fit_each_other_and_the_image() -> None:
    deployment, budget = read("kubernetes/producer.yaml")
    spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    selectors = [spec["selector"], budget["spec"]["selector"]]
    selectors += [spread["labelSelector"] for spread in pod["topologySpreadConstraints"]]
    assert all(selector["matchLabels"].items() <= labels.items() for selector in selectors)
    assert spec["replicas"] - budget["spec"]["maxUnavailable"] == 1
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == DOCKERFILE.one("USER")
    (container,) = pod["containers"]
    assert container["image"].endswith(f"/peekaping-producer:{__version__}")
    (port,) = container["ports"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    http = {name: value for name, value in variables.items() if name.startswith("PRODUCER_HTTP_")}
    assert http == HTTP
    assert str(port["containerPort"]) == http["PRODUCER_HTTP_PORT"]
    annotations = spec["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == http["PRODUCER_HTTP_PORT"]


def test_the_values_are_those_that_peekapings_chart_reads() -> None:
    (values,) = read("kubernetes/values.yaml")
    assert set(paths(values.pop("producer"))) == CHART
    assert values == {}


def paths(value: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the paths of all leaves."""
    found = []
    for key, inner in value.items():
        found += paths(cast("dict[str, Any]", inner), f"{prefix}{key}.") if isinstance(inner, dict) else [prefix + key]
    return found


# --- systemd


UNIT = DEPLOY / "systemd" / "peekaping-producer.service"


def test_the_unit_is_valid(tmp_path: Path) -> None:
    """With a program that exists here, by a path without a space."""
    unit, here = tmp_path / UNIT.name, tmp_path / "venv"
    here.symlink_to(Path(sys.executable).parents[1])
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/peekaping-producer", str(here)))
    verify = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_is_well_confined() -> None:
    run(["systemd-analyze", "security", "--offline=yes", "--threshold=15", str(UNIT)])
