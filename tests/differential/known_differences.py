"""The differences from the official server that are intended, each with its reason.

An entry that no longer matches anything makes the tests fail: a difference that is gone must leave the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.differential.compare import Difference


@dataclass(frozen=True)
class KnownDifference:
    """One accepted difference.

    Attributes:
        scenario: the scenario's name; `*` stands for any characters.
        path: where the difference is, as printed in a failure; `*` stands for any characters.
        reason: why Perdure differs on purpose.
    """

    scenario: str
    path: str
    reason: str

    def covers(self, scenario: str, difference: Difference) -> bool:
        """Whether this entry accepts that difference of that scenario."""
        # Brackets are index syntax in a path, not the character classes fnmatch would read.
        pattern = self.path.replace("[", "[[]")
        return fnmatchcase(scenario, self.scenario) and fnmatchcase(difference.path, pattern)


KNOWN_DIFFERENCES: tuple[KnownDifference, ...] = ()


def unexpected(
    scenario: str,
    found: Sequence[Difference],
    known: Sequence[KnownDifference] = KNOWN_DIFFERENCES,
) -> list[Difference]:
    """The differences that no entry accepts."""
    return [
        difference for difference in found if not any(entry.covers(scenario, difference) for entry in known)
    ]


def unused(
    found: Sequence[tuple[str, Difference]], known: Sequence[KnownDifference] = KNOWN_DIFFERENCES
) -> list[KnownDifference]:
    """The entries that accept none of the differences found (pairs of scenario name and difference)."""
    return [entry for entry in known if not any(entry.covers(name, difference) for name, difference in found)]
