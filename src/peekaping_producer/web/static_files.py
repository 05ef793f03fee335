"""The style sheets, scripts and pictures of the page, read once."""

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""What is served, by suffix."""
_FOREVER = "public, max-age=31536000, immutable"
_NOT_MODIFIED, _NOT_FOUND = 304, 404


class _File(Struct, frozen=True):
    body: bytes
    media_type: str
    digest: str


class StaticFiles:
    """Serves them, with the digest of their content as ETag."""

    def __init__(self) -> None:
        """Read all of them."""
        self._files = dict(_read(files(__package__) / "static", ""))

    def address(self, name: str) -> str:
        """Return the path of a file, which changes with its content."""
        return f"/static/{name}?v={self._files[name].digest}"

    async def serve(self, request: Request) -> Response:
        """Answer a request for one of them; a browser keeps one that it asked for by its digest."""
        file = self._files.get(request.path_params["name"])
        if file is None:
            return Response("Not Found", _NOT_FOUND, media_type="text/plain")
        named = request.query_params.get("v") == file.digest
        etag = f'"{file.digest}"'
        headers = {"etag": etag, "cache-control": _FOREVER if named else "no-cache"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=_NOT_MODIFIED, headers=headers)
        return Response(file.body, headers=headers | {"content-type": file.media_type})


def _read(folder: Traversable, prefix: str) -> list[tuple[str, _File]]:
    found = []
    for entry in folder.iterdir():
        suffix = entry.name.rpartition(".")[2]
        if entry.is_dir():
            found += _read(entry, f"{prefix}{entry.name}/")
        elif suffix in _TYPES:
            body = entry.read_bytes()
            found.append((prefix + entry.name, _File(body, _TYPES[suffix], hashlib.sha256(body).hexdigest()[:16])))
    return found
