"""How bad one seed's world is: rates drawn from the seed, all zero once its faults have ended."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from random import Random


@dataclass(frozen=True, slots=True)
class Faults:
    """Rates are chances per message, call or decision, 0 to 1; times are seconds.

    Attributes:
        request_loss, response_loss: a message vanishes.
        duplication: a request arrives a second time.
        connection_death: a waiting call's connection dies.
        slow_message: a message takes up to `slow_message_s` instead of milliseconds.
        store_before, store_after: a store call fails before it acts, or acts and is reported failed.
        store_conflict: a commit meets a version conflict that goes away by computing again.
        store_crash: the process dies while a store call is on its way (before or after the act).
        store_suspends: a store call takes time at all, up to `store_delay_s`; others are immediate.
        store_slow: a store call takes up to `slow_store_s`.
        server_pause_every_s: mean time between pauses of the server of up to `pause_s`; 0 for none.
        store_outage_every_s: mean time between outages of the store of up to `outage_s`; 0 for none.
        server_crash_every_s, worker_crash_every_s: mean time between crashes; 0 for none.
        clock_jump_every_s: mean time between jumps of the wall clock; 0 for none.
        task_failure, task_loss, task_slowness: what a worker does to a workflow task instead of completing it.
        bad_command: a worker completes a workflow task with a command the server must refuse.
        activity_loss: a worker forgets an activity it was given.
    """

    request_loss: float = 0.0
    response_loss: float = 0.0
    duplication: float = 0.0
    connection_death: float = 0.0
    slow_message: float = 0.0
    slow_message_s: float = 5.0
    store_before: float = 0.0
    store_after: float = 0.0
    store_conflict: float = 0.0
    store_crash: float = 0.0
    store_suspends: float = 0.5
    store_delay_s: float = 0.01
    store_slow: float = 0.0
    slow_store_s: float = 4.0
    server_pause_every_s: float = 0.0
    pause_s: float = 20.0
    store_outage_every_s: float = 0.0
    outage_s: float = 15.0
    server_crash_every_s: float = 0.0
    worker_crash_every_s: float = 0.0
    clock_jump_every_s: float = 0.0
    task_failure: float = 0.0
    task_loss: float = 0.0
    task_slowness: float = 0.0
    bad_command: float = 0.0
    activity_loss: float = 0.0

    def ended(self) -> Faults:
        """The same world without faults; only ordinary delays stay."""
        return replace(Faults(), store_suspends=self.store_suspends, store_delay_s=self.store_delay_s)

    def __str__(self) -> str:
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return " ".join(f"{name}={value:.3g}" for name, value in given if value)


_HIGHEST: tuple[tuple[str, float], ...] = (
    ("request_loss", 0.3),
    ("response_loss", 0.3),
    ("duplication", 0.5),
    ("connection_death", 0.3),
    ("slow_message", 0.2),
    ("store_before", 0.1),
    ("store_after", 0.1),
    ("store_conflict", 0.1),
    ("store_crash", 0.01),
    ("store_slow", 0.05),
    ("task_failure", 0.2),
    ("task_loss", 0.1),
    ("task_slowness", 0.1),
    ("bad_command", 0.05),
    ("activity_loss", 0.1),
)
"""Each rate of a seed is nothing, or drawn up to this, mostly far below."""


def draw_faults(random: Random) -> Faults:
    """The faults of a seed. One world in twelve has none at all; each kind of fault is missing in many."""
    calm = random.random() < 1 / 12
    drawn: dict[str, float] = {}
    for name, highest in _HIGHEST:
        share, chance = random.random(), random.random()
        drawn[name] = 0.0 if calm or chance < 0.4 else highest * share * share
    for name, least_s, most_s in (
        ("server_pause_every_s", 10.0, 100.0),
        ("store_outage_every_s", 10.0, 100.0),
        ("server_crash_every_s", 5.0, 60.0),
        ("worker_crash_every_s", 5.0, 60.0),
        ("clock_jump_every_s", 5.0, 60.0),
    ):
        every_s, chance = random.uniform(least_s, most_s), random.random()
        drawn[name] = 0.0 if calm or chance < 0.4 else every_s
    return Faults(store_suspends=random.choice((0.0, 0.2, 0.5, 1.0)), **drawn)
