"""Writes docs/compatibility.md: `python -m tests.differential.compatibility`. A test compares the file with this.

Everything that can become stale is taken from where it is decided: the known differences, the service's table of
RPCs, the core's table of commands, and the scenarios. Results of other projects' suites on this server are read from
`tests/compat/results`, those of the official SDK's suite on our SDK from `tests/compat/own_sdk_results.md`: written
after a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE
from perdure.core.run.commands import TABLE
from perdure.server.config import COMPATIBLE_VERSION, ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.server.service.refused_rpcs import REFUSED
from perdure.server.service.service import snake_case
from perdure.store.memory import MemoryStore
from tests.compat.cli_differences import CLI_DIFFERENCES
from tests.compat.cli_scenarios import SCENARIOS
from tests.compat.suite_results import features_table, load, table
from tests.differential.known_differences import KNOWN_DIFFERENCES, KnownDifference
from tests.differential.registry import all_scenarios

OWN_SDK_RESULTS = Path(__file__).resolve().parents[1] / "compat" / "own_sdk_results.md"
"""The section about the official SDK's suite on our SDK: made from a run of it, so kept and not computed here."""
TARGET = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"

_HEAD = """\
# Compatibility with Temporal

Written by `python -m tests.differential.compatibility`; do not edit.

Perdure speaks the gRPC protocol of Temporal's server, release {version}. The official SDKs and the `temporal` command
connect to it as they are.

## How it is compared

The differential tests run {count} scenarios by raw gRPC, some with the official Python SDK, against the official
development server and against Perdure. Each records whole answers: every event of a history with every field, task by
task what a worker got, errors with code, text and details, and how long things took. Random ids, times, tokens and
sizes become placeholders that still must be there; everything else must be equal.

    pytest tests/differential                                   # all, about a minute
    python -m tests.differential --list                         # what is compared
    python -m tests.differential --only 'timer_*' --diff        # some of it, with the differences

A difference that is intended is listed below with its reason. One that is not listed fails the tests, and so does an
entry of the list that nothing needs any more.

## Known differences
"""

_COMMAND_LINE = """\
## The official `temporal` command

{scenarios} scenarios of {steps} steps run the command, as it comes with the official server, against both servers.
Its JSON output, its errors and its exit codes are compared after ids, times, sizes and tokens have been replaced.

    pytest tests/compat/test_cli_same.py                        # all, under a minute

{count} commands: {verbs}.

What differs:
"""


_SUITES = """\
## Other projects' tests

Run as they are, with the official SDK, against the official development server and against Perdure, on the same
machine and with the same settings. None of their code is here. What each command takes and writes is in its `--help`.
"""

_SDK_SUITE = """\
### The official Python SDK's own suite

Release 1.31.0, without the integrations of model providers. Tests that start a server of their own start the one that
is tested. A test that a busy machine disturbed was run again by itself (`test_can_run_autoscaling_polling_worker` now
and then does not end, on either server).

    python tests/compat/official_suite.py CHECKOUT --python VENV/bin/python --both --output sdk.json
"""

_SAMPLES = """\
### temporalio/samples-python

With release 1.31.0 of the SDK. Left out: `deepagents_plugin`, which needs a later release, and `google_adk_agents`,
whose tests do not end with the release of that library that was there, on either server.

    python tests/compat/official_suite.py CHECKOUT --suite samples --python VENV/bin/python --both --output samples.json
"""

_FEATURES = """\
### temporalio/features

The Python features, by their own harness; a variant has a server with its own dynamic configuration. Every history
that a feature leaves must replay in the SDK's replayer, and is compared with the real server's event by event, without
the fields that the official runner leaves out. A feature that races with itself has more than one history: it is the
same if any two of the runs' are, and `update/activities` has too many for that. `poll_complete_on_shutdown` stops
workers in the middle of endless workflows. An empty message of priority is not written into the run that continues.

    python -m tests.compat.features_suite CHECKOUT --python VENV/bin/python --output features.json
"""

_TYPESCRIPT = """\
### The official TypeScript SDK

Release 1.24.0, worker and client, in `tests/compat/test_typescript.py`: activities (retried, local, completed by
others), timers, conditions, signals and queries, signal-with-start, cancellation, termination, children with every
outcome, external signals, updates with validators, update-with-start, continue-as-new, patches and memos, schedules,
Nexus operations of either kind. Results are equal on both servers, and histories replay.
"""


def page() -> str:
    """The whole page."""
    head = _HEAD.format(version=COMPATIBLE_VERSION, count=len(all_scenarios()))
    sections = (_differences(KNOWN_DIFFERENCES), _command_line(), _commands(), _rpcs())
    lines = [line for section in sections for line in (*section, "")]
    return "\n".join([head, *lines, *_suites(), OWN_SDK_RESULTS.read_text()])


def _suites() -> Iterator[str]:
    yield _SUITES
    yield _FEATURES
    yield from features_table(load("features"))
    for name, text in (("samples", _SAMPLES), ("sdk", _SDK_SUITE)):
        yield ""
        yield text
        yield from table(name, load(name))
    yield ""
    yield _TYPESCRIPT


def _command_line() -> Iterator[str]:
    verbs = {verb for scenario in SCENARIOS for step in scenario.steps if (verb := step.verb)}
    steps = sum(len(scenario.steps) for scenario in SCENARIOS)
    yield _COMMAND_LINE.format(
        scenarios=len(SCENARIOS), steps=steps, count=len(verbs), verbs=", ".join(sorted(verbs))
    )
    yield from _differences(CLI_DIFFERENCES)


def _differences(known: Sequence[KnownDifference]) -> Iterator[str]:
    yield "| where | why |"
    yield "|---|---|"
    by_reason = sorted(known, key=lambda entry: entry.reason)
    for reason, group in groupby(by_reason, key=lambda entry: entry.reason):
        entries = list(group)
        scenarios = list(dict.fromkeys(entry.scenario for entry in entries))
        paths = list(dict.fromkeys(entry.path for entry in entries))
        shown = [f"`{path}`" for path in paths if path != "*"]
        where = "every scenario" if scenarios == ["*"] else ", ".join(f"`{name}`" for name in scenarios)
        yield f"| {where}{': ' if shown else ''}{', '.join(shown)} | {reason} |"


def _commands() -> Iterator[str]:
    names = [handler.label for _, handler in sorted(TABLE.items())]
    yield "## Commands of workflows"
    yield ""
    yield f"All: {', '.join(names)}."


def _rpcs() -> Iterator[str]:
    server = Server(MemoryStore(), ServerConfig(port=0), SystemRuntime(), "memory")
    yield "## RPCs"
    yield ""
    yield "What is refused answers as the official server does: earlier forms of worker versioning, and what only a"
    yield "setting of its own or Temporal's cloud turns on. What is not there yet answers UNIMPLEMENTED with its name."
    for service in (WORKFLOW_SERVICE, OPERATOR_SERVICE):
        methods = [
            method for path, method in server.service.methods.items() if path.startswith(f"/{service}/")
        ]
        names = {method.path.rpartition("/")[2]: method.serve is not None for method in methods}
        refused = sorted(name for name in names if snake_case(name) in REFUSED)
        yield ""
        yield f"### {service.rpartition('.')[2]}: {sum(names.values()) - len(refused)} of {len(names)}"
        yield ""
        served = sorted(name for name, is_served in names.items() if is_served and name not in refused)
        yield f"Served: {', '.join(served)}."
        for label, listed in (
            ("Refused", refused),
            ("Not yet", sorted(name for name, is_served in names.items() if not is_served)),
        ):
            if listed:
                yield ""
                yield f"{label}: {', '.join(listed)}."


if __name__ == "__main__":
    TARGET.write_text(page())
