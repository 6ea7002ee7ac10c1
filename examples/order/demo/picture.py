"""A screenshot of a page of the web UI, with Playwright and the Chromium of this machine, where both are there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PAGE_TIMEOUT_MS: Final = 20_000


class NoPictureError(Exception):
    """There is no screenshot; the message says why and what would help."""


def find_browser() -> str:
    """The browser: `PERDURE_CHROMIUM`, or one on the PATH.

    Raises:
        NoPictureError: There is none.
    """
    named = os.environ.get("PERDURE_CHROMIUM", "")
    found = named or next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise NoPictureError(
            "there is no Chromium on this machine (Debian, Ubuntu: apt-get install chromium; "
            "elsewhere: PERDURE_CHROMIUM=/path/to/it)"
        )
    return found


async def take_picture(url: str, path: Path) -> None:
    """Write a PNG of the page at `url` to `path`.

    Raises:
        NoPictureError: It cannot be taken.
    """
    browser_path = find_browser()
    try:
        from playwright.async_api import Error, async_playwright
    except ImportError:
        raise NoPictureError("Playwright is not installed (pip install playwright)") from None
    try:
        async with async_playwright() as playwright:
            # The one page that is opened is our own, and root has no sandbox.
            browser = await playwright.chromium.launch(
                executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"]
            )
            page = await browser.new_page(viewport={"width": 1400, "height": 900})
            await page.goto(url, timeout=PAGE_TIMEOUT_MS)
            await page.screenshot(path=path, full_page=True, timeout=PAGE_TIMEOUT_MS)
            await browser.close()
    except Error as error:
        raise NoPictureError(f"{browser_path}: {error.message.splitlines()[0]}") from error
