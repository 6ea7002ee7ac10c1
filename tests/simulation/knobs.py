"""Sizes inside the server that are large in production: many seeds make them tiny, so that their limits are met."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import ModuleType
from typing import Any

from perdure.core.schedule import machine
from perdure.server.engine import histories, matching, runs, timers

_KNOBS: tuple[tuple[ModuleType, str, tuple[Any, ...]], ...] = (
    (matching, "BACKLOG_HEAD", (1, 2)),
    (matching, "STICKY_ALIVE_NS", (1_000_000_000,)),
    (timers, "PAGE", (1, 3)),
    (timers, "HORIZON_NS", (5_000_000_000,)),
    (timers, "CONCURRENT", (1,)),
    (runs, "TAIL_BYTES", (1, 500)),
    (histories, "PAGE_BYTES", (1, 700)),
    (machine, "MAX_LATE_ACTIONS", (1, 3)),
)


@contextmanager
def turned(random: Random) -> Iterator[str]:
    """Turns each knob in about a third of the seeds; yields which were turned."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _KNOBS]
    chosen = []
    for module, name, values in _KNOBS:
        value, chance = random.choice(values), random.random()
        if chance < 0.35:
            setattr(module, name, value)
            chosen.append(f"{name}={value}")
    try:
        yield " ".join(chosen)
    finally:
        for module, name, value in before:
            setattr(module, name, value)
