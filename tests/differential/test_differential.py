"""Every scenario against the official dev server and against Perdure: what they record must be equal.

All scenarios run once against each server, many at a time, before the first comparison; each test below compares
one scenario. An intended difference belongs into `known_differences`, with its reason. Where they differ otherwise, the
official server is asked once more before that counts (see `reference`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.differential.compare import differences, unified
from tests.differential.coverage import (
    NO_COMMANDS,
    NO_EVENTS,
    NO_SUCCESS,
    all_served_rpcs,
    command_types,
    complaints,
    event_types,
    events_in,
)
from tests.differential.known_differences import KNOWN_DIFFERENCES, unexpected, unused
from tests.differential.reference import with_second_answers
from tests.differential.registry import Scenario, all_scenarios
from tests.differential.runner import BROKEN_OFF, DYNAMIC_CONFIG, SEARCH_ATTRIBUTES, Outcome, run_on_each
from tests.support.servers import PerdureServer, RealServer

SCENARIOS = all_scenarios()
MINIMUM_SCENARIOS = 70

# The scenarios measure time, so they have the machine for themselves; the first test waits for all of them.
pytestmark = [pytest.mark.serial, pytest.mark.timeout(600)]

_OPTIONS: dict[str, Any] = {"dynamic_config": DYNAMIC_CONFIG, "search_attributes": SEARCH_ATTRIBUTES}


@dataclass(frozen=True)
class Outcomes:
    """What every scenario recorded on each side."""

    real: Mapping[str, Outcome]
    perdure: Mapping[str, Outcome]


def _broken_off(outcome: Outcome) -> bool:
    return any(record.label == BROKEN_OFF for record in outcome.records)


async def _ask_again(names: Sequence[str], concurrency: int) -> Mapping[str, Outcome]:
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in names]
    async with RealServer(**_OPTIONS) as real:
        (answers,) = await run_on_each(scenarios, [real.address], concurrency=concurrency)
    return answers


async def _run_both() -> Outcomes:
    async with RealServer(**_OPTIONS) as real, PerdureServer(**_OPTIONS) as perdure:
        first, ours = await run_on_each(SCENARIOS, [real.address, perdure.address])

    def agrees(name: str, outcome: Outcome) -> bool:
        found = differences(outcome.records, ours[name].records)
        return not _broken_off(outcome) and not unexpected(name, found)

    real_ones = await with_second_answers(first, agrees=agrees, says_nothing=_broken_off, ask=_ask_again)
    return Outcomes(real_ones, ours)


@pytest.fixture(scope="session")
def outcomes() -> Outcomes:
    """Both servers started, all scenarios run against both, both stopped; the official one asked again if need be."""
    return asyncio.run(_run_both())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_same_as_the_official_server(scenario: Scenario, outcomes: Outcomes) -> None:
    """One scenario records the same on both servers, apart from the known differences."""
    real = outcomes.real[scenario.name].records
    perdure = outcomes.perdure[scenario.name].records
    broken = [record for record in real if record.label == BROKEN_OFF]
    assert not broken, f"the scenario itself does not work: {broken[0].data}"
    found = unexpected(scenario.name, differences(real, perdure))
    if found:
        paths = "\n".join(f"  {difference}" for difference in found)
        pytest.fail(
            f"{scenario.purpose}\n{len(found)} differences:\n{paths}\n\n{unified(real, perdure)}",
            pytrace=False,
        )


def test_known_differences_still_exist(outcomes: Outcomes) -> None:
    """An entry of the list that accepts nothing any more must be removed."""
    found = [
        (name, difference)
        for name, outcome in outcomes.real.items()
        for difference in differences(outcome.records, outcomes.perdure[name].records)
    ]
    assert not unused(found), unused(found)


def test_every_event_type_of_the_official_server_is_compared(outcomes: Outcomes) -> None:
    """Each that it can write is in a history that it wrote here; an exception that it does write is none."""
    records = [record for outcome in outcomes.real.values() for record in outcome.records]
    seen = {name for record in records for name in events_in(record.data)}
    assert not complaints("event", event_types(), NO_EVENTS, seen)


def test_every_command_that_the_official_server_takes_is_compared(outcomes: Outcomes) -> None:
    """Each was in an answer to a workflow task that the official server took."""
    seen = {name for outcome in outcomes.real.values() for name in outcome.commands}
    assert not complaints("command", command_types(), NO_COMMANDS, seen)


def test_every_rpc_is_answered_by_both_servers(outcomes: Outcomes) -> None:
    """Each that is served has a valid request in some scenario, which the official server and Perdure take."""
    for side in (outcomes.real, outcomes.perdure):
        answered = {name for outcome in side.values() for name in outcome.answered}
        assert not complaints("RPC", all_served_rpcs(), NO_SUCCESS, answered & all_served_rpcs())


def test_known_differences_say_why() -> None:
    """Each entry of the list has a reason a reader can judge."""
    assert all(len(entry.reason) > 20 for entry in KNOWN_DIFFERENCES)


def test_enough_scenarios() -> None:
    """The scenarios are found (an empty list would make every comparison pass)."""
    assert len(SCENARIOS) >= MINIMUM_SCENARIOS
