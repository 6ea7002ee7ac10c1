"""What a scenario of commands is made of: steps, what they wait for and what they keep. Nothing here runs one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

Condition = Callable[[Any], bool]
"""Says of the parsed output of a command whether it is the one that is waited for."""


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        label: unique within the scenario; where the output stands in the comparison.
        command: the words after `temporal`, quoted as in a shell. `{queue}` is the queue of the scenario's worker,
            `{scenario}` the scenario's name with what makes it unique, `{name}` what a step before kept under that
            name, otherwise an id that is unique to this run.
        keep: name to path in the output, for later steps; `errors` searches the error text with a regular
            expression instead.
        until: the command only reads, and is repeated until this holds of its output.
        only: keep of a list in the output what contains this text: a server is shared by all scenarios.
        drop: paths in the output that differ by nature.
        in_order: False for a list whose order says nothing.
    """

    label: str
    command: str
    keep: Mapping[str, str] = field(default_factory=dict)
    until: Condition | None = None
    only: str = ""
    drop: tuple[str, ...] = ()
    in_order: bool = True

    @property
    def verb(self) -> str:
        """The command without its options, such as `workflow start`."""
        words = self.command.split()
        return " ".join(takewhile(lambda word: not word.startswith("-"), words))


@dataclass(frozen=True)
class Scenario:
    """A table of steps with a purpose that says what it shows."""

    name: str
    purpose: str
    steps: tuple[Step, ...]


def find(data: Any, path: str) -> Any:
    """What is at a dotted path (numbers index lists), None when there is nothing."""
    for part in path.split("."):
        if isinstance(data, list):
            data = (
                data[int(part)]
                if part.lstrip("-").isdigit() and -len(data) <= int(part) < len(data)
                else None
            )
        elif isinstance(data, dict):
            data = data.get(part)
        else:
            return None
    return data


def at(path: str, value: Any) -> Condition:
    """The output has this value at this path."""
    return lambda output: bool(find(output, path) == value)


def there(path: str) -> Condition:
    """The output has something at this path."""
    return lambda output: bool(find(output, path))


def length(count: int) -> Condition:
    """The output is a list of this many; nothing at all is a list of none."""
    return lambda output: len(output or []) == count


def ended(status: str) -> Condition:
    """The output describes a workflow that ended (or stands) like this."""
    return at("workflowExecutionInfo.status", f"WORKFLOW_EXECUTION_STATUS_{status}")


def settled(path: str) -> Condition:
    """The output describes a workflow that has something at this path and no workflow task to do."""
    return lambda output: bool(find(output, path)) and find(output, "pendingWorkflowTask") is None
