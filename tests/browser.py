"""A real browser without a window: Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000.0  # milliseconds, until a browser that hangs is given up
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def path_of_chromium() -> str:
    """The browser of this machine. Without one the test is skipped, but not where a skip would go unseen."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CI") or os.environ.get("LRFINDER_REQUIRE_CHROMIUM"):
            pytest.fail("there is no Chromium here; install it: apt-get install chromium.")
        pytest.skip("there is no Chromium here")
    return found


@dataclass
class Seen:
    """A page that was opened, and what the browser complained about or asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@dataclass
class Browser:
    """Opens files."""

    chromium: Any

    @contextmanager
    def open(self, path: Path, width: int = 1000, scheme: str = "light") -> Iterator[Seen]:
        """A file in a window of that width, for a reader who prefers that colour scheme."""
        context = self.chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE)
        seen = Seen(context.new_page())
        seen.page.on("console", lambda message: seen.said.append(message.text))
        seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
        seen.page.on("dialog", lambda dialog: (seen.said.append(dialog.message), dialog.dismiss()))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.goto(path.as_uri())
        yield seen
        context.close()


@contextmanager
def started() -> Iterator[Browser]:
    """A browser for several tests."""
    path = path_of_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=QUIET, timeout=PATIENCE)
        yield Browser(chromium)
        chromium.close()
