"""The page on compatibility says what the tables say."""

from __future__ import annotations

from tests.differential.compatibility import TARGET, page


def test_the_page_is_up_to_date() -> None:
    """docs/compatibility.md is what its generator makes of the tables now."""
    assert TARGET.read_text() == page(), "run `python -m tests.differential.compatibility`"
