"""Every page and every form of the UI has a test in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

from perdure.ui.routes import paths
from tests.ui.browser.table import TABLE


def test_every_page_is_opened_and_every_form_is_sent_in_a_browser() -> None:
    """What is new needs a row in the table, and a test that does it; a form is opened before it is sent."""
    wanted = {("POST" if "POST" in methods else "GET", path) for path, methods in paths().items()}
    # Pages that are also sent to themselves.
    wanted |= {("GET", "/settings"), ("GET", "/namespaces/{namespace}/import-history")}
    assert TABLE.keys() == wanted


def test_every_test_of_the_table_is_there() -> None:
    """By the name of its function."""
    folder = Path(__file__).parent / "browser"
    defined = {
        name
        for file in folder.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }
    assert {name.partition("[")[0] for name in TABLE.values()} <= defined
