"""The how-to guides and the pages about operations do what they say: every block runs, and prints what is shown."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.documents import PageRunner

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page for folder in ("how-to", "operations") for page in (REPOSITORY / "docs" / folder).glob("*.md")
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_every_block_of_a_page_does_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server in this process for each page; files and commands have a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    asyncio.run(PageRunner(page, tmp_path).run())
