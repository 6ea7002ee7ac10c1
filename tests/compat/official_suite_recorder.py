"""Pytest plugin: writes one JSON line per finished test to the file named by an environment variable.

Tests that let the SDK download a server get the server that is being tested. Loaded by `official_suite.py` into the
pytest that runs the official SDK's tests. Only the standard library
and pytest may be imported here, because it runs in that other virtual environment.
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any, Final

import pytest

RESULTS_VARIABLE: Final = "PERDURE_SUITE_RESULTS"
RESULTS_PATH: Final = os.environ[RESULTS_VARIABLE]
"""Read once: the suite has tests that empty the environment."""
EXISTING_PROGRAMS: Final = {
    "start_local": ("dev_server_existing_path", os.environ.get("PERDURE_SUITE_DEV_SERVER")),
    "start_time_skipping": ("test_server_existing_path", os.environ.get("PERDURE_SUITE_TEST_SERVER")),
}
"""By method of WorkflowEnvironment: its argument for a program instead of a download, and the program."""
MESSAGE_LIMIT: Final = 2_000
"""Characters kept of each end of a failure's text: enough for the exception, not its whole log."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let the SDK start the programs that are being tested, unless a test names its own."""
    from temporalio.client import Client
    from temporalio.testing import WorkflowEnvironment

    Client.connect = staticmethod(_on_default_runtime(Client.connect))  # type: ignore[method-assign]

    for name, (argument, program) in EXISTING_PROGRAMS.items():
        if program:
            setattr(
                WorkflowEnvironment, name, _starting(getattr(WorkflowEnvironment, name), argument, program)
            )


def _on_default_runtime(connect: Any) -> Any:
    """Say which runtime it is where nothing but an address is given, as the SDK does for a server that it starts.

    The suite's tests give the runtime of its client to others, which the SDK refuses if it was never said.
    """
    from temporalio.runtime import Runtime

    @functools.wraps(connect)
    async def connect_client(address: str, **given: Any) -> Any:
        return await connect(address, **(given or {"runtime": Runtime.default()}))

    return connect_client


def _starting(start: Any, argument: str, program: str) -> Any:
    @functools.wraps(start)
    async def start_program(**given: Any) -> Any:
        return await start(**{argument: program, **given})

    return start_program


def _outcome(report: pytest.TestReport) -> str | None:
    """The outcome this phase decides for the test, or None when another phase decides."""
    if report.when == "call":
        return "skipped" if hasattr(report, "wasxfail") and report.skipped else report.outcome
    if report.when == "setup" and not report.passed:
        return "failed" if report.failed else "skipped"
    if report.when == "teardown" and report.failed:
        return "failed"
    return None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Append the test's outcome, duration and (last) failure text to the results file."""
    outcome = _outcome(report)
    if outcome is None:
        return
    text = report.longreprtext if outcome != "passed" else ""
    line = {
        "test": report.nodeid,
        "outcome": outcome,
        "phase": report.when,
        "seconds": round(report.duration, 3),
        "message": text
        if len(text) <= 2 * MESSAGE_LIMIT
        else text[:MESSAGE_LIMIT] + "…" + text[-MESSAGE_LIMIT:],
    }
    with open(RESULTS_PATH, "a", encoding="utf-8") as results:
        results.write(json.dumps(line) + "\n")


def _already_started() -> set[str]:
    try:
        with open(RESULTS_PATH, encoding="utf-8") as results:
            return {json.loads(line)["test"] for line in results}
    except FileNotFoundError:
        return set()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that an earlier process of this run already started."""
    started = _already_started()
    again = [item for item in items if item.nodeid in started]
    if again:
        config.hook.pytest_deselected(items=again)
        items[:] = [item for item in items if item.nodeid not in started]


def pytest_runtest_logstart(nodeid: str, location: tuple[str, int | None, str]) -> None:
    """Note that a test began, so a test during which the process was killed is known by name."""
    with open(RESULTS_PATH, "a", encoding="utf-8") as results:
        results.write(json.dumps({"test": nodeid, "outcome": "started"}) + "\n")
