"""Runs an image without a container engine: in a Debian root file system, by the instructions of its Dockerfile."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
BUILD = ("sh", "/src/deploy/docker/build.sh", "/src")
_BASE = ROOT / ".image" / "base"
_PACKAGES = "python3-venv,ca-certificates,supervisor,systemd-sysv"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOST = re.compile(r"PIP_INDEX_URL|PIP_EXTRA_INDEX_URL|UV_INDEX_URL|UV_DEFAULT_INDEX|(?i:(https?|no)_proxy)")
"""The variables by which this host reaches a registry."""
_ENTER = """
set -eu
mount --make-rprivate /
cd "$1"; shift
mount --bind . .
cd "$PWD"
mount -t proc proc proc
mount -t tmpfs tmpfs dev
for device in null zero random urandom; do touch dev/$device; mount --bind /dev/$device dev/$device; done
ln -s /proc/self/fd dev/fd; ln -s /proc/self/fd/1 dev/stdout; ln -s /proc/self/fd/2 dev/stderr
mkdir dev/shm; mount -t tmpfs tmpfs dev/shm
while [ "$1" != -- ]; do
    mount --bind "${1%%:*}" "./${1#*:}"
    shift
done
shift
[ "$1" = writable ] || mount -o remount,bind,ro .
shift
exec chroot . "$@"
"""
"""Becomes the process in the root file system $1: mounts, as HOST:INSIDE, follow up to `--`."""


class Dockerfile:
    """What a container engine would read from the Dockerfile."""

    def __init__(self, path: Path = DOCKERFILE) -> None:
        """Read it."""
        text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
        self.instructions = [line.partition(" ")[::2] for line in text.splitlines() if re.match(r"[A-Z]", line)]

    def all_of(self, name: str) -> list[str]:
        """Return the arguments of every instruction of this name."""
        return [arguments for instruction, arguments in self.instructions if instruction == name]

    def one(self, name: str) -> str:
        """Return the arguments of the only instruction of this name."""
        (arguments,) = self.all_of(name)
        return arguments

    @property
    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        found = {"PATH": _PATH}
        for pair in self.one("ENV").split():
            name, _, value = pair.partition("=")
            found[name] = value.replace("$PATH", _PATH)
        return found

    @property
    def command(self) -> list[str]:
        """What starts: the entry point and its arguments."""
        return [*json.loads(self.one("ENTRYPOINT")), *json.loads(self.one("CMD"))]

    @property
    def probe(self) -> list[str]:
        """The command of HEALTHCHECK."""
        return list(json.loads(self.one("HEALTHCHECK").partition("CMD ")[2]))

    def as_user(self, command: Sequence[str], variables: Mapping[str, object]) -> list[str]:
        """Return the command as the image's user, without any capability, with its environment and these variables."""
        uid, gid = self.one("USER").split(":")
        return [
            *("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"),
            *in_environment(command, self.environment | dict(variables), self.one("WORKDIR")),
        ]


def in_environment(command: Sequence[str], variables: Mapping[str, object], folder: str) -> list[str]:
    """Return the command with this environment and no other, in this folder."""
    return ["env", "-i", "-C", folder, *(f"{name}={value}" for name, value in variables.items()), *command]


def built_root(folder: Path) -> Path:
    """Make a Debian 12 in `folder` and run the steps of the Dockerfile in it."""
    root = folder / "root"
    if not _BASE.exists():
        made = _BASE.with_name(f"making-{os.getpid()}")
        made.parent.mkdir(exist_ok=True)
        _run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(made)])
        made.rename(_BASE)
    _run(["cp", "--archive", "--reflink=auto", str(_BASE), str(root)])
    for name in ("src", "app/data", "app/server"):
        (root / name).mkdir(parents=True)
    shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
    shutil.copy(_CERTIFICATES, root / _CERTIFICATES[1:])
    host = {name: value for name, value in os.environ.items() if _HOST.fullmatch(name)}
    variables = {"PATH": _PATH, "PIP_CERT": _CERTIFICATES} | host
    with source_only(folder) as source:
        command = in_environment(BUILD, variables, "/")
        _run(entered(root, command, mounts={str(source): "src"}, writable=True))
    return root


@contextmanager
def source_only(folder: Path) -> Iterator[Path]:
    """Copy what the Dockerfile's .dockerignore lets through, for the duration of the block."""
    source = folder / "source"
    kept = (DOCKERFILE.parent / f"{DOCKERFILE.name}.dockerignore").read_text(encoding="utf-8").splitlines()
    for name in [line[1:] for line in kept if line.startswith("!")]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    yield source
    shutil.rmtree(source)


def entered(
    root: Path, command: Sequence[str], *, mounts: Mapping[str, str] | None = None, writable: bool = False
) -> list[str]:
    """Return the command that runs `command` as process 1 in the root file system, which is read-only by default."""
    binds = [f"{host}:{inside}" for host, inside in (mounts or {}).items()]
    mode = "writable" if writable else "read-only"
    launcher = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    return [*launcher, "sh", "-c", _ENTER, "enter", str(root), *binds, "--", mode, *command]


def run_inside(launcher_pid: int, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command in the running container, as `docker exec` does; `launcher_pid` is that of `entered`."""
    (first,) = psutil.Process(launcher_pid).children()
    inside = ["nsenter", f"--target={first.pid}", "--mount", "--pid", "--root", "--", *command]
    return subprocess.run(inside, capture_output=True, text=True, timeout=30, check=False, env={"PATH": _PATH})


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
