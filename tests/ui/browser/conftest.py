"""One server, one worker and one browser for all of these tests; any complaint of the browser fails the test."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from perdure.ui.routes import paths
from tests.ui.browser.table import TABLE
from tests.ui.stage import Stage

SCREENSHOTS = Path(__file__).resolve().parents[1] / "screenshots"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_MS = 20_000
"""Most milliseconds that anything on a page may take: much, because two cores run everything."""
expect.set_options(timeout=WAIT_MS)


def find_browser() -> str | None:
    """The browser of this machine: `PERDURE_CHROMIUM`, or one on the PATH."""
    named = os.environ.get("PERDURE_CHROMIUM", "")
    return named or next((path for name in BROWSERS if (path := shutil.which(name))), None)


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The server with its runs."""
    stage = Stage(tmp_path_factory.mktemp("ui") / "server.log")
    stage.start()
    try:
        stage.wait(stage.prepare())
        yield stage
    finally:
        stage.stop()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser."""
    path = find_browser()
    if path is None:
        pytest.skip(
            "no Chromium on this machine (Debian: apt-get install chromium): the web UI was not tested"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def route_of(path: str) -> str:
    """The route that an address belongs to; empty without one."""
    routes = sorted(paths(), key=lambda route: route.count("{"))
    return next((one for one in routes if re.fullmatch(re.sub(r"{\w+}", "[^/]+", one), path)), "")


class Visitor:
    """A user with a browser.

    Args:
        stage: what is visited.
        context: of the browser.
    """

    def __init__(self, stage: Stage, context: BrowserContext) -> None:
        self.stage = stage
        self.context = context
        context.set_default_timeout(WAIT_MS)
        self.complaints: list[str] = []
        self.asked: set[tuple[str, str]] = set()
        """Method and route of every request."""
        self.page: Page = self.new_page()

    def new_page(self) -> Page:
        """Another tab; its complaints count, too."""
        page = self.context.new_page()
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._see(request.method, request.url))
        page.on("download", lambda download: self._see("GET", download.url))
        return page

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def _see(self, method: str, url: str) -> None:
        if not url.startswith((self.stage.url, "data:", "blob:")):
            self.complaints.append(f"the page asked {url}")
        path = url.removeprefix(self.stage.url).partition("?")[0].partition("#")[0]
        self.asked.add((method, route_of(path)))

    def expect_refusal(self, status: int) -> None:
        """The page that was opened was answered with this status, which the browser mentions."""
        expected = [text for text in self.complaints if f"status of {status}" in text]
        assert expected, self.complaints
        for text in expected:
            self.complaints.remove(text)

    def open(self, path: str) -> Page:
        """Opens a page: an address, or a path below `/namespaces/default`."""
        url = path if path.startswith("http") else f"{self.stage.url}/namespaces/default{path}"
        self.page.goto(url)
        return self.page

    def until(self, expression: str) -> None:
        """Waits until an expression holds. Playwright's own wait evaluates text in the page, against its policy."""
        ends_s = time.monotonic() + WAIT_MS / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < ends_s, f"never: {expression}"
            self.page.wait_for_timeout(20)

    def shoot(self, name: str) -> None:
        """Keeps a screenshot of the whole page."""
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    def check_access(self) -> None:
        """The page can be used by everybody: axe finds nothing."""
        self.page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
        found: Any = self.page.evaluate(
            "axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})"
        )
        told = [
            f"{one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
            for one in found["violations"]
        ]
        assert not told, "\n".join(told)


@pytest.fixture
def visitor(stage: Stage, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """A user with a wide window and light colours, who does what the table says of the test."""
    yield from _visitor(stage, browser, claims=[one for one, by in TABLE.items() if by == request.node.name])


@pytest.fixture
def phone(stage: Stage, browser: Browser) -> Iterator[Visitor]:
    """A user with a phone and dark colours."""
    yield from _visitor(
        stage, browser, viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True
    )


@pytest.fixture
def reader(stage: Stage, browser: Browser) -> Iterator[Visitor]:
    """A user whose browser runs no script."""
    yield from _visitor(stage, browser, java_script_enabled=False)


def _visitor(
    stage: Stage, browser: Browser, *, claims: Sequence[tuple[str, str]] = (), **options: Any
) -> Iterator[Visitor]:
    settings: dict[str, Any] = {"viewport": {"width": 1400, "height": 900}, "timezone_id": "Europe/Berlin"}
    context = browser.new_context(**{**settings, **options})
    visitor = Visitor(stage, context)
    yield visitor
    context.close()
    assert visitor.complaints == []
    assert [one for one in claims if one not in visitor.asked] == []
