"""What the official server answers, asked once more where that is not what Perdure answers.

The official server is the measure here and not what is tested. On a busy machine it hands tasks out late and lets them
time out, and some of what it does together comes in either order: one recording shows one of several things that it
does. Perdure is recorded once, and must do what the official server did in one of its recordings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from tests.differential.compare import differences
from tests.differential.known_differences import unexpected
from tests.differential.registry import Scenario
from tests.differential.runner import BROKEN_OFF, Outcome

# How many scenarios run at once when the official server is asked again, and again.
CONCURRENCIES = (8, 2)

Ask = Callable[[Sequence[Scenario], int], Awaitable[Mapping[str, Outcome]]]


def broken_off(outcome: Outcome) -> bool:
    """Whether the scenario could not go on, so that its recording says nothing."""
    return any(record.label == BROKEN_OFF for record in outcome.records)


def agrees(name: str, real: Outcome, perdure: Outcome) -> bool:
    """Whether a scenario's two recordings are the same, apart from the known differences."""
    return not broken_off(real) and not unexpected(name, differences(real.records, perdure.records))


async def with_second_answers(
    scenarios: Sequence[Scenario], real: Mapping[str, Outcome], perdure: Mapping[str, Outcome], ask: Ask
) -> Mapping[str, Outcome]:
    """The official server's recordings, with those of a later round where only they agree with Perdure's.

    Args:
        scenarios: all that were recorded.
        real: what the official server did, by scenario.
        perdure: what Perdure did.
        ask: runs scenarios on the official server, that many at once.
    """
    answers = dict(real)
    for concurrency in CONCURRENCIES:
        doubtful = [one for one in scenarios if not agrees(one.name, answers[one.name], perdure[one.name])]
        if not doubtful:
            break
        for name, answer in (await ask(doubtful, concurrency)).items():
            if broken_off(answers[name]) or agrees(name, answer, perdure[name]):
                answers[name] = answer
    return answers
