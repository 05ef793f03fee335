"""The pictures of the page in docs/pictures, taken from a running demo: `python -m benchmarks.pictures`.

It takes four minutes, and needs chromium and chromium-driver (apt). Look at the pictures before you commit them.
"""

import base64
import io
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

import benchmarks.database  # noqa: F401 - makes `support` importable
from support.browser import Browser, browser

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
_COLOURS = 256
_DEMO = ("--monitors", "600", "--interval", "60", "--nodes", "3", "--http-port", "0")
_SETTLED_S = 100.0
"""By then the plots show something."""
_DRAWN_S = 2.0
"""The plots are drawn after the page has been opened, and nothing says when."""
_WIDE, _HIGHEST = 1080, 1120


def main() -> None:
    """Take all pictures."""
    FOLDER.mkdir(exist_ok=True)
    with browser() as tab:
        with _demo("--seconds", "600") as url:
            time.sleep(_SETTLED_S)
            _take(tab, url, "page-light", width=_WIDE)
            _take(tab, url, "page-dark", width=_WIDE, scheme="dark")
            _take(tab, url, "page-phone", width=360, height=1500)
            tab.become()
            tab.open(url)
            monitor = str(tab.run("return document.querySelector('[data-part=next] a').href"))
            _take(tab, monitor, "page-monitor", width=_WIDE)
        with _demo("--break", "--seconds", "120") as url:
            tab.become(width=_WIDE)
            tab.until_open(url)
            tab.until(lambda: tab.run("return document.getElementById('sentence').className") == "ok", "all is well")
            tab.until_shown("A node is gone", within_s=120)
            _save(tab, "page-fault", _WIDE, _HIGHEST)


@contextmanager
def _demo(*arguments: str) -> Iterator[str]:
    """Run the demo for the duration of the block; return the address of its page."""
    command = [sys.executable, "-m", "peekaping_producer", "demo", *_DEMO, *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        try:
            yield next(found[0] for line in demo.stderr if (found := re.search(r"http://\S+", line)))
        finally:
            demo.terminate()
            demo.communicate()


def _take(tab: Browser, url: str, name: str, *, width: int, height: int = 0, scheme: str = "light") -> None:
    """Take a picture of the upper part of a page."""
    tab.become(width=width, height=height or 900, scheme=scheme)
    tab.open(url)
    time.sleep(_DRAWN_S)
    _save(tab, name, width, height or min(_HIGHEST, int(tab.run("return document.documentElement.scrollHeight"))))


def _save(tab: Browser, name: str, width: int, height: int) -> None:
    file = FOLDER / f"{name}.png"
    with Image.open(io.BytesIO(base64.b64decode(tab.picture(width, height)))) as picture:
        # A page has few colours, and a palette a third of the bytes.
        # The octree also keeps the colours of small things, such as a green dot.
        palette = picture.convert("RGB").quantize(_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette.save(file, optimize=True)
    print(f"docs/pictures/{file.name}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
