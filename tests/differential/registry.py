"""The list of scenarios: a decorator that adds to it, and the way to load all of them.

A scenario's name is its function's name, unique over all files of `scenarios/`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.differential import scenarios
from tests.differential.context import Context

ScenarioBody = Callable[[Context], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """One registered scenario.

    Attributes:
        name: the function's name.
        body: the async function.
        slow: takes long by nature, so it is started before the others.
    """

    name: str
    body: ScenarioBody
    slow: bool = False

    @property
    def purpose(self) -> str:
        """The first line of the function's docstring."""
        return (self.body.__doc__ or "").strip().partition("\n")[0]


_SCENARIOS: dict[str, Scenario] = {}


def _add(body: ScenarioBody, slow: bool) -> ScenarioBody:
    name = body.__name__
    if name in _SCENARIOS:
        raise ValueError(f"two scenarios named {name}")
    _SCENARIOS[name] = Scenario(name, body, slow)
    return body


def scenario(body: ScenarioBody) -> ScenarioBody:
    """Register an async function as a scenario."""
    return _add(body, slow=False)


def slow_scenario(body: ScenarioBody) -> ScenarioBody:
    """Register a scenario that takes more than about five seconds by nature."""
    return _add(body, slow=True)


def all_scenarios() -> list[Scenario]:
    """Every scenario, slow ones first, otherwise in the order of files and functions."""
    for module in pkgutil.iter_modules(scenarios.__path__):
        importlib.import_module(f"{scenarios.__name__}.{module.name}")
    return sorted(_SCENARIOS.values(), key=lambda entry: not entry.slow)
