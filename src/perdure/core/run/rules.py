"""What a named rule is, and how rules are gathered. Lives here: that. May not: any rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Rule(Generic[Subject]):
    """A named rule; `cheap` ones cost no encoding and no pass over the history, and for those `alone` that are about a
    state by itself there is a rule about the transition that led to it."""

    name: str
    holds: Callable[[Subject], str | None]
    cheap: bool = True
    alone: bool = False


@dataclass(slots=True)
class RuleTable(Generic[Subject]):
    """Rules about one kind of subject; called, it is a decorator that adds one."""

    rules: list[Rule[Subject]] = field(default_factory=list)

    def __call__(
        self, name: str, *, cheap: bool = True, alone: bool = False
    ) -> Callable[[Callable[[Subject], str | None]], Callable[[Subject], str | None]]:
        def register(function: Callable[[Subject], str | None]) -> Callable[[Subject], str | None]:
            self.rules.append(Rule(name, function, cheap, alone))
            return function

        return register
