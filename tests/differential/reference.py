"""What the official server answers, asked once more where that is not what Perdure answers.

The official server is the measure here and not what is tested. On a busy machine it hands tasks out late and lets them
time out, and some of what it does together comes in either order: one recording shows one of several things that it
does. Perdure is recorded once, and must do what the official server did in one of its recordings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

AnswerT = TypeVar("AnswerT")

# How many scenarios run at once when the official server is asked again, and again.
CONCURRENCIES = (8, 2)


async def with_second_answers(
    first: Mapping[str, AnswerT],
    *,
    agrees: Callable[[str, AnswerT], bool],
    says_nothing: Callable[[AnswerT], bool],
    ask: Callable[[Sequence[str], int], Awaitable[Mapping[str, AnswerT]]],
) -> dict[str, AnswerT]:
    """The official server's recordings, with those of a later round where only they agree with Perdure's.

    Args:
        first: what the official server did, by scenario.
        agrees: whether that is what Perdure did in the scenario of this name.
        says_nothing: whether the scenario could not go on, so that any later recording is better.
        ask: runs the scenarios of these names on the official server, that many at once.
    """
    answers = dict(first)
    for concurrency in CONCURRENCIES:
        doubtful = [name for name, answer in answers.items() if not agrees(name, answer)]
        if not doubtful:
            break
        for name, answer in (await ask(doubtful, concurrency)).items():
            if says_nothing(answers[name]) or agrees(name, answer):
                answers[name] = answer
    return answers
