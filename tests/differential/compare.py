"""Differences between two recordings of a scenario: where, what each side has, and a readable diff.

Works on plain data only (see `normalise`); knows nothing of servers.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Data = Any

MISSING = "<missing>"


@dataclass(frozen=True)
class Record:
    """One thing a scenario recorded, under a label that is unique within the scenario."""

    label: str
    data: Data


@dataclass(frozen=True)
class Difference:
    """One place where the two recordings differ; `path` reads like `history[3].attributes.name`."""

    path: str
    real: Data
    perdure: Data

    def __str__(self) -> str:
        return f"{self.path}: real {line(self.real)}, perdure {line(self.perdure)}"


def differences(real: Sequence[Record], perdure: Sequence[Record]) -> list[Difference]:
    """Every place where two recordings differ, in the order of the real one, then what only the other has."""
    left = {record.label: record.data for record in real}
    right = {record.label: record.data for record in perdure}
    return [
        difference
        for label in [*left, *(label for label in right if label not in left)]
        for difference in _walk(label, left.get(label, MISSING), right.get(label, MISSING))
    ]


def _walk(path: str, left: Data, right: Data) -> Iterator[Difference]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in [*left, *(key for key in right if key not in left)]:
            yield from _walk(f"{path}.{key}", left.get(key, MISSING), right.get(key, MISSING))
    elif isinstance(left, list) and isinstance(right, list):
        for index in range(max(len(left), len(right))):
            yield from _walk(
                f"{path}[{index}]",
                left[index] if index < len(left) else MISSING,
                right[index] if index < len(right) else MISSING,
            )
    elif left != right or isinstance(left, bool) != isinstance(right, bool):
        yield Difference(path, left, right)


def unified(real: Sequence[Record], perdure: Sequence[Record]) -> str:
    """A unified diff of the two recordings printed as text."""
    return "\n".join(
        difflib.unified_diff(
            render(real).splitlines(), render(perdure).splitlines(), "real", "perdure", lineterm="", n=4
        )
    )


def render(records: Sequence[Record]) -> str:
    """A recording as text: one line per scalar, nested by indentation."""
    lines: list[str] = []
    for record in records:
        lines.append(f"## {record.label}")
        lines.extend(_lines(record.data, "  "))
    return "\n".join(lines)


def _lines(data: Data, indent: str) -> Iterator[str]:
    items: list[tuple[str, Data]]
    if isinstance(data, dict):
        items = [(f"{key}:", value) for key, value in data.items()]
    elif isinstance(data, list):
        items = [(f"[{index}]", value) for index, value in enumerate(data)]
    else:
        yield indent + line(data)
        return
    for head, value in items:
        if isinstance(value, (dict, list)) and value:
            yield f"{indent}{head}"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{head} {line(value)}"


def line(data: Data) -> str:
    """A value in one line, cut if it is long."""
    if isinstance(data, str):
        return data if len(data) <= 400 else f"{data[:400]}… ({len(data)} characters)"
    return json.dumps(data)
