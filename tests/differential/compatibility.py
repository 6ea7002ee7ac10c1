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

from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE, Rpc, rpcs
from perdure.core.run.commands import TABLE
from perdure.server.config import COMPATIBLE_VERSION
from tests.compat.cli_differences import CLI_DIFFERENCES
from tests.compat.cli_scenarios import SCENARIOS
from tests.compat.suite_results import features_table, load, table
from tests.differential.coverage import (
    NO_COMMANDS,
    NO_EVENTS,
    NO_SUCCESS,
    event_types,
    served_rpcs,
)
from tests.differential.known_differences import KNOWN_DIFFERENCES, KnownDifference
from tests.differential.registry import all_scenarios
from tests.differential.scenarios.every_rpc import has_namespace, has_target
from tests.unit.server.test_hostile_fields import spoiled
from tests.unit.server.test_repeated_requests import CASES

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

_UNSEEN = """\
Decided, too, where the scenarios look away, as it concerns when something happens rather than what:

- A version of a worker deployment is drained as soon as its last run has closed; officially a few minutes later.
- The routing of a deployment is in force everywhere once it is set: its propagation is always `COMPLETED`.
- The history of an open run with the close-event filter and without `wait_new_event` is empty at once; the official
  server waits 20 s and is empty then. With `wait_new_event` a run that is paused is waited for; officially the newest
  event comes at once, whatever it is.
- Workers that poll with `use_versioning` (build ids without deployments, refused by the official server unless a
  setting allows them) are answered `UNIMPLEMENTED`.
- A run that was ended before its first task was due lasted 0 s; officially a time below zero.
- Quotas are off unless they are set (see [limits](operations/limits.md)).
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
and then does not end, on either server). Two files need what the repository's lock file has: `test_type_errors.py`
pyright and uv (told to leave VENV alone: `UV_NO_SYNC=1 UV_FROZEN=1 UV_PROJECT_ENVIRONMENT=VENV`), and
`nexus/test_temporal_system_nexus.py` a release of protobuf before 7.

    python -m tests.compat.official_suite CHECKOUT --python VENV/bin/python --both --output sdk.json
"""

_SAMPLES = """\
### temporalio/samples-python

With release 1.31.0 of the SDK. Left out: `deepagents_plugin`, which needs a later release, and `google_adk_agents`,
whose tests do not end with the release of that library that was there, on either server.

    python -m tests.compat.official_suite CHECKOUT --suite samples --python VENV/bin/python --both --output samples.json

An application moves over by changing its imports: where every `temporalio` in these programs and their tests is
replaced by `perdure` (`--renamed`), 107 tests pass, 3 are skipped and none fails, as with the official SDK.
Integrations with model providers are not among them: Perdure has no such modules. Of the programs in `hello` the 21
that need no certificate do the same.
"""

_FEATURES = """\
### temporalio/features

The Python features, by their own harness; a variant has a server with its own dynamic configuration. Every history
that a feature leaves must replay in the SDK's replayer, and is compared with the real server's event by event, without
the fields that the official runner leaves out. A feature that races with itself has more than one history: it is the
same if any two of the runs' are; `update/activities` has too many for that, and on a busy machine the update of
`updates_do_not_block_continue_as_new` comes with another task. `poll_complete_on_shutdown` stops workers in the middle
of endless workflows. An empty message of priority is not written into the run that continues.

    python -m tests.compat.features_suite CHECKOUT --python VENV/bin/python --output features.json
"""

_TYPESCRIPT = """\
### The official TypeScript SDK

Release 1.24.0, worker and client, in `tests/compat/test_typescript.py`: activities (retried, local, completed by
others), timers, conditions, signals and queries, signal-with-start, cancellation, termination, children with every
outcome, external signals, updates with validators, update-with-start, continue-as-new, patches and memos, schedules,
Nexus operations of either kind. Results are equal on both servers, and histories replay.
"""

_RPCS = """\
## RPCs

Each RPC that is served has tests of these kinds, and the tables are made of what these tests go through. A dash is
where the request has no such part (a token of a task that is not there is a wrong value), or for a reason given below.

- valid: scenarios in which the official server and Perdure answer it without an error (`tests/differential`);
- wrong values: how many there are of its fields, each served or refused with a typed error
  (`tests/unit/server/test_hostile_fields.py`);
- wrong namespace, missing target: what is not there, by name; the answers are equal
  (`every_*` in `tests/differential`);
- repeated request id: sent twice, it has one effect (`tests/unit/server/test_repeated_requests.py`).

What is refused answers as the official server does: earlier forms of worker versioning, and what only a
setting of its own or Temporal's cloud turns on.
"""


def page() -> str:
    """The whole page."""
    head = _HEAD.format(version=COMPATIBLE_VERSION, count=len(all_scenarios()))
    sections = (_differences(KNOWN_DIFFERENCES), [_UNSEEN], _command_line(), _commands(), _rpcs())
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
    yield "## Commands and events of workflows"
    yield ""
    yield "A test looks at what the scenarios recorded on the official server: each of these is in it."
    yield ""
    yield f"All {len(names)} commands: {', '.join(names)}."
    for name, reason in NO_COMMANDS.items():
        yield f"- not {_words(name)}: {reason}"
    shown = [_words(name) for name in event_types()]
    missing = {_words(name): reason for name, reason in NO_EVENTS.items()}
    compared = [name for name in shown if name not in missing]
    yield ""
    yield f"{len(compared)} of {len(shown)} event types: {', '.join(compared)}."
    yield ""
    yield "The official server, as it is configured by default, writes no others:"
    yield ""
    for name, reason in missing.items():
        yield f"- {name}: {reason}"


def _words(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _rpcs() -> Iterator[str]:
    yield _RPCS
    for service in (WORKFLOW_SERVICE, OPERATOR_SERVICE):
        served = set(served_rpcs(service))
        names = {rpc.name: rpc for rpc in rpcs(service)}
        yield f"### {service.rpartition('.')[2]}: {len(served)} of {len(names)}"
        yield ""
        yield "| RPC | valid | wrong values | wrong namespace | missing target | repeated request id |"
        yield "|---|---|---|---|---|---|"
        yield from (_row(names[name]) for name in sorted(served))
        refused = sorted(names.keys() - served)
        if refused:
            yield ""
            yield f"Refused: {', '.join(refused)}."
        yield ""
    for name, reason in NO_SUCCESS.items():
        yield f"- {name} without an error: {reason}"


def _row(rpc: Rpc) -> str:
    wrong_values = sum(1 for _ in spoiled(rpc.request.DESCRIPTOR))
    shown = (
        _mark(rpc.name not in NO_SUCCESS),
        str(wrong_values) if wrong_values else _mark(False),
        _mark(has_namespace(rpc)),
        _mark(has_target(rpc)),
        _mark(rpc.name in CASES),
    )
    return f"| {rpc.name} | {' | '.join(shown)} |"


def _mark(is_tested: bool) -> str:
    return "yes" if is_tested else "–"


if __name__ == "__main__":
    TARGET.write_text(page())
