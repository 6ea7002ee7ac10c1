"""The official `temporal` command on the official dev server and on ours: what it prints must be the same.

And `perdure` in its place, on both servers: its JSON must be that of the official command on the same server. All
scenarios run once on each server with each command before the first comparison; each test compares one. An intended
difference belongs into `cli_differences`, with its reason. Where the servers differ otherwise, the official one is
asked once more before that counts (see `tests.differential.reference`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.compat.cli_differences import CLI_DIFFERENCES, OWN_DIFFERENCES
from tests.compat.cli_runner import Output, run_all
from tests.compat.cli_scenarios import SCENARIOS, Scenario
from tests.compat.own_cli import OwnCliRun, comparable
from tests.differential.compare import Record, differences, unified
from tests.differential.known_differences import unexpected, unused
from tests.differential.reference import with_second_answers
from tests.differential.runner import DYNAMIC_CONFIG, SEARCH_ATTRIBUTES
from tests.support.servers import PerdureServer, RealServer

pytestmark = [pytest.mark.serial, pytest.mark.timeout(600)]


ON_REAL = [
    scenario
    for scenario in SCENARIOS
    if scenario.name
    in ("workflow_execute", "workflow_messages", "schedule_life", "activity_standalone_executed")
]
"""What shows that our command works with the official server, too; everything would only take longer."""


def waited_in_vain(records: Sequence[Record]) -> list[str]:
    """The steps after which what they wait for did not come."""
    return [record.label for record in records if isinstance(record.data, dict) and "never" in record.data]


Recordings = Mapping[str, Sequence[Record]]


@dataclass(frozen=True)
class Printed:
    """What every scenario printed on each side."""

    real: Recordings
    perdure: Recordings
    own_on_real: Recordings
    own_on_perdure: Recordings


_OPTIONS: dict[str, Any] = {"dynamic_config": DYNAMIC_CONFIG, "search_attributes": SEARCH_ATTRIBUTES}


async def _ask_again(names: Sequence[str], _: int) -> Mapping[str, list[Record]]:
    async with RealServer(**_OPTIONS) as real:
        return await run_all([one for one in SCENARIOS if one.name in names], real.address)


async def _run_both() -> Printed:
    async with RealServer(**_OPTIONS) as real, PerdureServer(**_OPTIONS) as perdure:
        first, ours = await asyncio.gather(
            run_all(SCENARIOS, real.address), run_all(SCENARIOS, perdure.address)
        )
        own_on_real = await run_all(ON_REAL, real.address, OwnCliRun)
    # A server of its own: what one command has made would be in the other one's lists.
    async with PerdureServer(**_OPTIONS) as perdure:
        own_on_perdure = await run_all(SCENARIOS, perdure.address, OwnCliRun)

    def agrees(name: str, records: Sequence[Record]) -> bool:
        found = unexpected(name, differences(records, ours[name]), CLI_DIFFERENCES)
        return not waited_in_vain(records) and not found

    real_ones = await with_second_answers(
        first, agrees=agrees, says_nothing=lambda records: bool(waited_in_vain(records)), ask=_ask_again
    )
    return Printed(real_ones, ours, own_on_real, own_on_perdure)


@pytest.fixture(scope="module")
def printed() -> Printed:
    """Both servers started, all scenarios run on both, both stopped."""
    return asyncio.run(_run_both())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_prints_the_same(scenario: Scenario, printed: Printed) -> None:
    """One scenario prints the same on both servers, apart from the known differences."""
    real, perdure = printed.real[scenario.name], printed.perdure[scenario.name]
    broken = waited_in_vain(real)
    assert not broken, f"the scenario itself does not work: {broken}"
    found = unexpected(scenario.name, differences(real, perdure), CLI_DIFFERENCES)
    if found:
        paths = "\n".join(f"  {difference}" for difference in found)
        pytest.fail(
            f"{scenario.purpose}\n{len(found)} differences:\n{paths}\n\n{unified(real, perdure)}",
            pytrace=False,
        )


@pytest.mark.parametrize(
    ("server", "scenario"),
    [("real", scenario) for scenario in ON_REAL] + [("perdure", scenario) for scenario in SCENARIOS],
    ids=lambda value: getattr(value, "name", value),
)
def test_own_command_prints_the_same(scenario: Scenario, server: str, printed: Printed) -> None:
    """`perdure` prints the JSON of the official command, on either server; its errors are one line each."""
    official = comparable(getattr(printed, server)[scenario.name])
    own_records = getattr(printed, f"own_on_{server}")[scenario.name]
    broken = waited_in_vain(own_records)
    assert not broken, f"waited for in vain: {broken}"
    own = comparable(own_records)
    found = unexpected(scenario.name, differences(official, own), OWN_DIFFERENCES)
    if found:
        paths = "\n".join(f"  {difference}" for difference in found)
        pytest.fail(f"{scenario.purpose}\n{paths}\n\n{unified(official, own)}", pytrace=False)
    for record in own_records:
        errors = record.data.get("errors", "")
        lines = [line for line in errors.splitlines() if not line.startswith("Warning: ")]
        assert (record.data["exit"] == 0) == (not lines), f"{record.label}: {errors}"
        assert len(lines) <= 1, errors
        assert all(line.startswith("Error: ") for line in lines)


def test_known_differences_still_exist(printed: Printed) -> None:
    """An entry of the list that accepts nothing any more must be removed."""
    found = [
        (name, difference)
        for name, records in printed.real.items()
        for difference in differences(records, printed.perdure[name])
    ]
    left_over = [f"{entry.scenario}: {entry.path}" for entry in unused(found, CLI_DIFFERENCES)]
    assert not left_over


def test_known_differences_say_why() -> None:
    """Each entry of the list has a reason a reader can judge, and each scenario a name of its own."""
    assert all(len(entry.reason) > 20 for entry in (*CLI_DIFFERENCES, *OWN_DIFFERENCES))
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


def test_only_what_differs_by_nature_is_replaced() -> None:
    """Times, ids and sizes become placeholders; a state, a time far away and a payload's content stay."""
    printed = {
        "startTime": "2026-01-02T03:04:05Z",
        "fixed": "2090-01-01T00:00:00Z",
        "runId": "01234567-89ab-cdef-0123-456789abcdef",
        "historySizeBytes": "17",
        "state": "RUNNING",
        "input": {"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "ImhlbGxvIg=="},
    }
    assert Output("token").data(printed) == {
        "startTime": "<time>",
        "fixed": "2090-01-01T00:00:00Z",
        "runId": "<id 1>",
        "historySizeBytes": "<size>",
        "state": "RUNNING",
        "input": {"metadata": {"encoding": "json/plain"}, "data": '"hello"'},
    }
