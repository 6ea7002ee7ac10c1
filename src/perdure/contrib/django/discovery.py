"""The workflows and activities of a project: what the modules `workflows` and `activities` of its apps define."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from perdure.activity._definition import Definition
from perdure.workflow._definition import _Definition

MODULES = ("workflows", "activities")


@dataclass
class Found:
    """What a worker runs."""

    workflows: list[type] = field(default_factory=list)
    activities: list[Callable[..., Any]] = field(default_factory=list)

    def add(self, module: ModuleType) -> None:
        """Take what a module defines itself; what it imports belongs to others."""
        for thing in vars(module).values():
            if getattr(thing, "__module__", None) != module.__name__:
                continue
            if isinstance(thing, type):
                if _Definition.from_class(thing) is not None:
                    self.workflows.append(thing)
            elif callable(thing) and Definition.from_callable(thing) is not None:
                self.activities.append(thing)


def discover() -> Found:
    """Import `workflows` and `activities` of every installed application.

    Activities are functions of the module. Methods need an object, which only the application can make: run a worker of
    your own for them, with `perdure.contrib.django.worker.new_worker`.
    """
    found = Found()
    for config in apps.get_app_configs():
        for name in MODULES:
            if config.module is not None and module_has_submodule(config.module, name):
                found.add(import_module(f"{config.name}.{name}"))
    return found
