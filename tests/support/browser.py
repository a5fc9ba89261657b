"""A real browser for the page, Debian's chromium or Chrome, driven by selenium; and axe-core, which judges the page."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

AXE = "axe-core@4.14.1"
SECONDS = 20
_TEXTS = """
return [...document.querySelectorAll(arguments[0])].filter((element) => element.checkVisibility())
  .map((element) => element.innerText.trim());
"""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_DRIVERS = ("chromedriver", "chromium.chromedriver")


class Browser:
    """A window with one page. downloads: where files are saved."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads

    def open(self, url: str, *, size: tuple[int, int] = (1280, 900), **media: str) -> None:
        """Shows a page anew. size: in CSS pixels. media: features as prefers_color_scheme="dark"."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(url)
        self.wait(lambda: self.all("#versions tr"), "the versions")

    def one(self, selector: str) -> WebElement:
        """The element of a CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """The elements of a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What is seen of an element; "" where it is hidden."""
        return next(iter(self.texts(selector)), "")

    def texts(self, selector: str) -> list[str]:
        """What is seen of each element that is, at one moment."""
        return list(self.script(_TEXTS, selector))

    def click(self, selector: str) -> None:
        """Clicks an element."""
        self.one(selector).click()

    def script(self, text: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(text, *arguments)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Waits until the condition holds. what: for the failure, which has the page's text too."""
        try:
            return WebDriverWait(self.driver, SECONDS, 0.05).until(lambda _: condition())
        except Exception as error:
            raise AssertionError(f"{what} did not come; the page says:\n{self.text('body')}") from error

    def wait_for_text(self, selector: str, text: str) -> None:
        """Waits until an element has a text."""
        self.wait(lambda: text in self.text(selector), f"{text!r} in {selector}")

    def choose(self, *files: Path, selector: str = "#files") -> None:
        """Chooses files, as in the dialogue of the operating system."""
        self.one(selector).send_keys("\n".join(map(str, files)))

    def violations(self, axe: str) -> Sequence[str]:
        """What axe-core has against the page as it is now, once nothing moves any more."""
        self.script(axe)
        self.script("document.getAnimations().forEach((animation) => animation.finish())")
        result = self.driver.execute_async_script("axe.run().then(arguments[0])")
        return [
            f"{violation['id']}: {node['html']} {node['failureSummary']}"
            for violation in result["violations"]
            for node in violation["nodes"]
        ]

    def picture(self, file: Path, scale: float) -> None:
        """Writes the whole page as WebP. scale: pixels of the picture for each of CSS."""
        size = self.script("const page = document.documentElement; return [page.clientWidth, page.scrollHeight]")
        options = {
            "format": "webp",
            "quality": 80,
            "captureBeyondViewport": True,
            "clip": {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": scale},
        }
        file.write_bytes(base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]))

    def complaints(self) -> list[str]:
        """What the browser's console has of errors since the last call: scripts, policies, failed requests."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] == "SEVERE"
        ]


@contextmanager
def running_browser(downloads: Path) -> Iterator[Browser]:
    """A browser without a window on the screen. Skips the test, with the reason, where there is none."""
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver_program = next(filter(None, map(shutil.which, _DRIVERS)), None)
    if program is None or driver_program is None:
        pytest.skip(f"no {' or '.join(_BROWSERS)} with chromedriver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    options.add_argument("--headless=new")
    options.add_argument("--hide-scrollbars")
    options.add_argument("--disable-dev-shm-usage")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_program))
    try:
        yield Browser(driver, downloads)
    finally:
        driver.quit()


def axe_source(directory: Path) -> str:
    """axe-core's script, from npm. Skips the test, with the reason, where it is not to be had."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"no npm here to get {AXE} with")
    command = [npm, "pack", AXE, "--silent", "--pack-destination", str(directory)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if process.returncode:
        pytest.skip(f"{AXE} is not to be had: {process.stderr.strip()[-200:]}")
    [archive] = directory.glob("axe-core-*.tgz")
    with tarfile.open(archive) as package:
        file = package.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode()
