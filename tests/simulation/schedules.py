"""Schedules in the simulation: what is done with them, and what must hold of every stored state.

What is due is worked out here by plain arithmetic on intervals, without the core's code: each due action is taken once,
counted as missed, or waits; none vanishes and none comes twice, whatever crashes in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from perdure.api.schedule.v1 import SchedulePatch
from perdure.core.run.records import RunKey
from perdure.core.schedule import machine
from perdure.core.schedule.state import ScheduleState, decode
from perdure.store.protocol import ScheduleKey, StoredSchedule
from tests.simulation.model import RUNNING, RunModel, check
from tests.simulation.program import Program, random_program
from tests.simulation.trace import Trace

PREFIX = "scheduled"
SECOND_NS = 1_000_000_000
_POLICIES = ("SKIP", "BUFFER_ONE", "BUFFER_ALL", "CANCEL_OTHER", "TERMINATE_OTHER", "ALLOW_ALL")
_ENDS_OTHERS = ("CANCEL_OTHER", "TERMINATE_OTHER")
_COUNTED = ("action_count", "overlap_skipped", "missed_catchup_window", "buffer_dropped")


_USUAL_STEP = machine.MAX_LATE_ACTIONS
"""Actions that one step takes in, where no knob is turned."""


@dataclass(slots=True)
class SchedulePlan:
    """What is to be done with one schedule.

    Attributes:
        every_s: its interval.
        policy: its overlap policy.
        catchup_s: its catch-up window.
        triggers, pauses, updates: how many there are while faults occur.
        backfills: one backfill that runs beside others.
        pause_on_failure: a failed workflow pauses it.
    """

    namespace: str
    schedule_id: str
    task_queue: str
    program: Program
    every_s: int
    policy: str
    catchup_s: int
    triggers: int
    pauses: int
    updates: int
    backfills: bool
    pause_on_failure: bool

    @property
    def is_plain(self) -> bool:
        """Only the clock decides what is started."""
        return not (self.triggers or self.backfills)

    @property
    def loses_nothing(self) -> bool:
        """Every start that does not begin is counted: none is given up for another one, or because of a pause."""
        return (
            self.is_plain and self.policy not in _ENDS_OTHERS and not (self.pauses or self.pause_on_failure)
        )


def draw_schedule(random: Random, number: int, namespace: str, task_queue: str) -> SchedulePlan:
    """A random plan."""
    while True:
        program = random_program(random, waits_for_signals=False)
        text = str(program)
        # Runs are many; what they do to each other is looked at elsewhere.
        if "next" not in program and not any(name in text for name in ("'child'", "'abort'", "'poke'")):
            break
    program["steps"] = program["steps"][:2]
    plain = random.random() < 0.5
    return SchedulePlan(
        namespace,
        f"{PREFIX}{number}",
        task_queue,
        program,
        every_s=random.choice((3, 7, 20)),
        policy=random.choice(_POLICIES),
        catchup_s=random.choice((10, 30)),
        triggers=0 if plain else random.randint(0, 2),
        pauses=random.choice((0, 0, 1, 2)),
        updates=random.choice((0, 0, 1)),
        backfills=not plain and random.random() < 0.4,
        pause_on_failure=random.random() < 0.2,
    )


@dataclass(slots=True)
class _Known:
    """What is known of one schedule."""

    plan: SchedulePlan
    state: ScheduleState | None = None
    lost: int = 0
    requests: dict[str, SchedulePatch | None] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    is_deleted: bool = False
    moved: tuple[int, int] = (0, 0)
    """Up to when it had acted when it was last looked at, and since when it has acted no further."""


class ScheduleOracle:
    """Watches the stored schedules and the runs that they start.

    Args:
        trace: what happened.
        models: every run that is there, by key.
    """

    def __init__(self, trace: Trace, models: dict[RunKey, RunModel]) -> None:
        self._trace = trace
        self._models = models
        self._known: dict[ScheduleKey, _Known] = {}
        self._started: dict[tuple[str, str], RunKey] = {}

    def expect(self, key: ScheduleKey, plan: SchedulePlan) -> None:
        """A client is going to create this schedule."""
        self._known[key] = _Known(plan)

    def asked(self, key: ScheduleKey, request_id: str, patch: SchedulePatch | None) -> None:
        """A client is going to send this change."""
        self._known[key].requests[request_id] = patch

    def acknowledged(self, key: ScheduleKey, request_id: str) -> None:
        """A change was acknowledged."""
        check(
            request_id in self._known[key].done, "an acknowledged change of a schedule is durable", request_id
        )

    def put(self, stored: StoredSchedule, now_ns: int) -> None:
        """The store has a new state of a schedule."""
        known = self._known[stored.key]
        before = known.state
        state = known.state = decode(stored.key.namespace_id, stored.key.schedule_id, stored.data)
        if before is None:
            return
        manual = self._requests(known, before, state)
        self._check_due(known, before, state, manual, now_ns)
        self._check_starts(known, state)
        if state.starting:
            self._trace.reach("schedule: a start noted before it is done")
        for name in _COUNTED:
            grown = getattr(state.info, name) - getattr(before.info, name)
            check(grown >= 0, "a schedule forgets nothing it has done", f"{stored.key} {name}")
            if grown:
                self._trace.reach(f"schedule: {name.replace('_', ' ')}")

    def _requests(self, known: _Known, before: ScheduleState, state: ScheduleState) -> int:
        """Takes in changes that were made; returns how many starts they asked for."""
        manual = 0
        for request_id in state.request_ids:
            if request_id in before.request_ids:
                continue
            check(request_id not in known.done, "a change of a schedule is made once", request_id)
            known.done.add(request_id)
            patch = known.requests[request_id]
            manual += patch is not None and patch.HasField("trigger_immediately")
        return manual

    def _check_due(
        self, known: _Known, before: ScheduleState, state: ScheduleState, manual: int, now_ns: int
    ) -> None:
        """Each due action is taken or counted as missed; while the schedule is paused, none is."""
        every_ns = known.plan.every_s * SECOND_NS
        first_ns, last_ns = before.processed_ns, state.processed_ns
        check(last_ns >= first_ns, "a schedule's time does not go back", f"{first_ns} {last_ns}")
        due = 0 if before.schedule.state.paused else last_ns // every_ns - first_ns // every_ns
        added = (
            state.next_sequence - before.next_sequence - manual - self._backfilled(before, state, every_ns)
        )
        missed = state.info.missed_catchup_window - before.info.missed_catchup_window
        check(
            added + missed == due,
            "each due action is taken once",
            f"{due} due, {added} taken, {missed} missed",
        )
        too_late_ns = now_ns - known.plan.catchup_s * SECOND_NS
        late = max(min(too_late_ns, last_ns) // every_ns - first_ns // every_ns, 0)
        check(missed <= late, "no action is missed within the catch-up window", f"{missed} of {late}")

    def _backfilled(self, before: ScheduleState, state: ScheduleState, every_ns: int) -> int:
        """How many actions of backfills were taken."""
        left = {backfill.end_ns: backfill.after_ns for backfill in state.backfills}
        began = [(backfill.after_ns, backfill.end_ns) for backfill in before.backfills]
        return sum(left.get(end_ns, end_ns) // every_ns - after_ns // every_ns for after_ns, end_ns in began)

    def _check_starts(self, known: _Known, state: ScheduleState) -> None:
        """Each start has begun, was passed over, or waits."""
        info = state.info
        there = info.action_count + info.overlap_skipped + len(state.buffer) + len(state.starting)
        lost = state.next_sequence - 1 - there
        check(lost >= known.lost, "no start of a schedule begins twice", f"{lost} < {known.lost}")
        check(
            not (lost and known.plan.loses_nothing), "no start of a schedule is lost", f"{lost} {known.plan}"
        )
        known.lost = lost

    def deleted(self, key: ScheduleKey) -> None:
        """The store has deleted a schedule."""
        self._known[key].is_deleted = True

    def check_deleted(self, key: ScheduleKey) -> None:
        """A deletion was acknowledged."""
        check(self._known[key].is_deleted, "an acknowledged deletion of a schedule is done", key)

    def started(self, run: RunKey) -> None:
        """A run has begun: if a schedule started it, no other one of its time, and none beside others."""
        schedule_id, dash, _ = run.workflow_id.partition("-")
        known = self._known.get(ScheduleKey(run.namespace_id, schedule_id)) if dash else None
        if known is None or "/" in run.workflow_id:
            return
        plan = known.plan
        self._trace.reach(f"schedule started a workflow, {plan.policy}")
        key = (run.namespace_id, run.workflow_id)
        if plan.is_plain:
            check(
                key not in self._started, "an action is taken at most once", f"{run} {self._started.get(key)}"
            )
        self._started[key] = run
        if plan.policy == "ALLOW_ALL" or plan.backfills:
            return
        others = [
            other
            for other, model in self._models.items()
            if model.status == RUNNING
            and other != run
            and other.namespace_id == run.namespace_id
            and other.workflow_id.startswith(f"{schedule_id}-")
            and "/" not in other.workflow_id
        ]
        check(not others, "a schedule's workflows do not overlap", f"{run} {others}")

    def check_timely(self, now_ns: int, within_ns: int) -> None:
        """Nothing that is due is left undone for long; where one step takes in few actions, each must follow soon."""
        for key, known in self._known.items():
            state = known.state
            if state is None or known.is_deleted or state.schedule.state.paused:
                continue
            every_ns = known.plan.every_s * SECOND_NS
            due_ns = (state.processed_ns // every_ns + 1) * every_ns
            if known.moved[0] != state.processed_ns:
                known.moved = (state.processed_ns, now_ns)
            late_ns = now_ns - (
                max(due_ns, known.moved[1]) if machine.MAX_LATE_ACTIONS < _USUAL_STEP else due_ns
            )
            check(late_ns < within_ns, "no schedule falls behind", f"{key} {due_ns} at {now_ns}")
