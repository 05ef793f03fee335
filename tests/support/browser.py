"""Headless Chromium, and what a person sees in it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

_CHROMIUM, _DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
_AXE = Path(__file__).with_name("axe") / "axe.min.js"
_WITHIN_S = 40.0
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars")


class Browser:
    """One tab."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def until_open(self, url: str) -> None:
        """Open a page as soon as it is served."""

        def opens() -> bool:
            try:
                self.open(url)
            except WebDriverException as error:
                if "ERR_CONNECTION_REFUSED" not in str(error):
                    raise
                return False
            return True

        self.until(opens, f"{url} opens")

    def element(self, selector: str) -> WebElement:
        """Return an element, without a script."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "body") -> str:
        """Return the text of an element, as it is shown."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def picture(self, width: int, height: int) -> str:
        """Return a picture of the page from its top, as PNG in Base64."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        arguments = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        return str(self.driver.execute_cdp_cmd("Page.captureScreenshot", arguments)["data"])

    def until(self, condition: Callable[[], object], what: str, within_s: float = _WITHIN_S) -> None:
        """Wait until a condition holds."""
        WebDriverWait(self.driver, within_s, 0.1).until(
            lambda _driver: condition(), f"{what}; shown: {self.text()[:2000]}"
        )

    def until_shown(self, words: str, selector: str = "body", within_s: float = _WITHIN_S) -> None:
        """Wait until an element shows some words."""
        self.until(lambda: words in self.text(selector), f"{words!r} in {selector}", within_s)

    def become(self, *, width: int = 1280, height: int = 900, scheme: str = "light", scripts: bool = True) -> None:
        """Change the size of the window, the colours that the person prefers, and whether scripts run."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._command("Emulation.setEmulatedMedia", {"features": features})
        self._command("Emulation.setDeviceMetricsOverride", metrics)
        self._command("Emulation.setScriptExecutionDisabled", {"value": not scripts})

    def complaints(self) -> list[str]:
        """Return what the console has said since the last call; a broken policy is said there."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def serious_issues(self) -> list[str]:
        """Return what axe finds that keeps somebody from using the page."""
        self._command("Runtime.evaluate", {"expression": _AXE.read_text(encoding="utf-8")})
        script = "const done = arguments[arguments.length - 1]; axe.run().then((found) => done(found.violations))"
        found = self.driver.execute_async_script(script)
        return [
            f"{issue['id']}: {issue['help']}: {[node['html'][:200] for node in issue['nodes'][:3]]}"
            for issue in found
            if issue["impact"] in {"serious", "critical"}
        ]

    def _command(self, name: str, arguments: dict[str, Any]) -> None:
        self.driver.execute_cdp_cmd(name, arguments)


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser for the duration of the block."""
    options = webdriver.ChromeOptions()
    options.binary_location = _CHROMIUM or ""
    for option in _OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
