"""What it costs to turn a value into a payload and back, ours and the official SDK's in the same run.

Each round measures both, one after the other, so that a noisy neighbour troubles both; the best round counts.
"""

from __future__ import annotations

import argparse
import timeit
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial
from typing import Any
from uuid import UUID

import temporalio.converter

import perdure.converter


class Size(IntEnum):
    """A field of the order."""

    SMALL = 1
    LARGE = 2


@dataclass
class Line:
    """One line of the order."""

    sku: str
    quantity: int
    size: Size


@dataclass
class Order:
    """What a typical workflow is given."""

    order_id: str
    customer: UUID
    placed: datetime
    lines: list[Line]
    notes: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


ORDER = Order(
    "A-1",
    UUID(int=7),
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    [Line(f"sku-{number}", number, Size.LARGE) for number in range(3)],
    tags={"channel": "web"},
)

CASES: tuple[tuple[str, Any, Any], ...] = (
    ("None", None, None),
    ("str", "Hello, World", str),
    ("int", 42, int),
    ("bytes", b"x" * 100, bytes),
    ("dict", {"order": "A-1", "amount": 12.5, "lines": [1, 2, 3]}, None),
    ("list[str]", ["one", "two", "three"], list[str]),
    ("dataclass, 3 lines", ORDER, Order),
    ("dict of 1,000", {str(number): number for number in range(1000)}, dict[str, int]),
)


def best_us(action: Callable[[], object], loops: int) -> float:
    """The time of one call in microseconds."""
    return timeit.timeit(action, number=loops) / loops * 1e6


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--loops", type=int, default=2000)
    arguments = parser.parse_args()
    converters: dict[str, Any] = {
        "perdure": perdure.converter.DataConverter.default.payload_converter,
        "official": temporalio.converter.DataConverter.default.payload_converter,
    }
    print(
        f"{'microseconds':22}{'encode: perdure':>17}{'official':>10}{'decode: perdure':>17}{'official':>10}"
    )
    for name, value, type_hint in CASES:
        hints = None if type_hint is None else [type_hint]
        loops = max(20, arguments.loops // (100 if "1,000" in name else 1))
        times: dict[tuple[str, str], float] = {}
        for _ in range(arguments.rounds):
            for library, converter in converters.items():
                payloads = converter.to_payloads([value])
                for step, action in (
                    ("encode", partial(converter.to_payloads, [value])),
                    ("decode", partial(converter.from_payloads, payloads, hints)),
                ):
                    measured = best_us(action, loops)
                    times[step, library] = min(times.get((step, library), measured), measured)
        print(
            f"{name:22}{times['encode', 'perdure']:17.2f}{times['encode', 'official']:10.2f}"
            f"{times['decode', 'perdure']:17.2f}{times['decode', 'official']:10.2f}"
        )


if __name__ == "__main__":
    main()
