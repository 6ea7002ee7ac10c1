"""Sleeps that tests may contain, as `path::function`, each with the reason why nothing else can be done.

What is outside functions is `path::`.
"""

from __future__ import annotations

_POLLS_ANOTHER_PROCESS = "polls another process with a deadline; it offers nothing to wait on"
_REAL_SERVER = "both servers run on the real clock here, and the pause is part of the scenario compared"
_DURABLE = "workflow code: a durable timer, not a wait of the test"
_UNDER_TEST = "in the table of calls that are refused, so it sleeps only when the test fails"

ALLOWED_SLEEPS: dict[str, str] = {
    "tests/compat/cli_runner.py::CliRun._step": _POLLS_ANOTHER_PROCESS,
    "tests/compat/features_driver.py::collect_histories": _POLLS_ANOTHER_PROCESS,
    "tests/compat/official_suite.py::wait_for_port": _POLLS_ANOTHER_PROCESS,
    "tests/differential/context.py::Context.pause": _REAL_SERVER,
    "tests/differential/context.py::Context.until": _POLLS_ANOTHER_PROCESS,
    "tests/e2e/contrib_django/test_django.py::_wait_for_status": _POLLS_ANOTHER_PROCESS,
    "tests/e2e/determinism/steps.py::race": _DURABLE,
    "tests/e2e/determinism/steps.py::race_that_leaves_the_loser": _DURABLE,
    "tests/e2e/determinism/steps.py::race_the_other_way_round": _DURABLE,
    "tests/e2e/determinism/steps.py::timer": _DURABLE,
    "tests/e2e/python_sdk.py::eventually": _POLLS_ANOTHER_PROCESS,
    "tests/support/servers.py::ServerProcess._wait_until_ready": _POLLS_ANOTHER_PROCESS,
    "tests/ui/stage.py::Stage.until": _POLLS_ANOTHER_PROCESS,
    "tests/unit/guards/test_guards.py::": _UNDER_TEST,
}
