"""Under `PERDURE_NO_SKIP` a skip is a failure; otherwise it stays a skip with its reason shown."""

from __future__ import annotations

import pytest

from tests.no_skip import OLDER_PYTHON, VARIABLE

_SAMPLE = """
import pytest
def test_call(): pytest.skip("no npm")
@pytest.mark.skipif(True, reason="no browser")
def test_mark(): pass
@pytest.mark.xfail(strict=True)
def test_expected(): assert False
def test_good(): pass
"""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", {"failed": 1, "errors": 1, "passed": 1, "xfailed": 1}),
        ("", {"skipped": 2, "passed": 1, "xfailed": 1}),
    ],
)
def test_skips_count_as_asked(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, value: str, expected: dict[str, int]
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    pytester.makepyfile(_SAMPLE)
    result = pytester.runpytest_inprocess("-p", "tests.no_skip", "-ra", "-p", "no:cacheprovider")
    assert result.parseoutcomes() == expected
    result.stdout.fnmatch_lines(["*no npm*"])


def test_a_test_for_a_later_python_may_be_skipped(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.skipif(True, reason={OLDER_PYTHON + 'x'!r})\ndef test_x(): pass"
    )
    result = pytester.runpytest_inprocess("-p", "tests.no_skip", "-p", "no:cacheprovider")
    assert result.parseoutcomes() == {"skipped": 1}


def test_skipping_a_whole_module_is_a_failure_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    pytester.makepyfile(
        "import pytest\npytest.skip('no database', allow_module_level=True)\ndef test_x(): pass"
    )
    result = pytester.runpytest_inprocess("-p", "tests.no_skip", "-p", "no:cacheprovider")
    assert result.parseoutcomes() == {"errors": 1}
    assert result.ret != 0
