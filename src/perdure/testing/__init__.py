"""Testing workflows and activities: environments with a server inside the process, and pytest fixtures.

May live here: what a test of a user needs. May not: anything that production code needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.testing._activity import ActivityEnvironment
    from perdure.testing._time_skipper import FastForwardConfig, TimeSkipper, TimeSkippingConfig
    from perdure.testing._workflow import WorkflowEnvironment

__all__ = [
    "ActivityEnvironment",
    "FastForwardConfig",
    "TimeSkipper",
    "TimeSkippingConfig",
    "WorkflowEnvironment",
]

_MODULES = {
    "ActivityEnvironment": "_activity",
    "FastForwardConfig": "_time_skipper",
    "TimeSkipper": "_time_skipper",
    "TimeSkippingConfig": "_time_skipper",
    "WorkflowEnvironment": "_workflow",
}


def __getattr__(name: str) -> object:
    # Imported when first used: pytest loads this package's plugin in every project that Perdure is installed for.
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{module}"), name)
