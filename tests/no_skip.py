"""A pytest plugin: where `PERDURE_NO_SKIP` is set, a skipped test has failed.

On a developer's machine a missing part (npm, a browser) skips its tests and says so. Where everything must
run, the same skip is an error, so a test can not fall silent unnoticed. One reason is accepted there too: the
interpreter is older than what is tested.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

VARIABLE = "PERDURE_NO_SKIP"
OLDER_PYTHON = "this Python is too old: "
"""How the reason of a skip begins that is accepted everywhere."""


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or os.environ.get(VARIABLE, "") in ("", "0"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if OLDER_PYTHON in reason:
        return
    report.outcome = "failed"
    report.longrepr = f"{reason} (a skip is a failure because {VARIABLE} is set)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip during set-up, call or tear-down into a failure."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into a failure."""
    report = yield
    _refuse_skip(report)
    return report
