"""What is known to be true of chains of runs with a cron schedule.

When each run is due is worked out here by plain arithmetic on intervals, without the core's code: a chain goes on after
every end but those from outside, in the same commit, at the schedule's next time, and with the last result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perdure.api.history.v1 import HistoryEvent
from perdure.core.run.records import RunKey
from perdure.core.run.state import RunState
from tests.simulation.interpreter import attributes_of, event_name
from tests.simulation.model import RunModel, check
from tests.simulation.trace import Trace

SECOND_NS = 1_000_000_000
_MINUTE_S = 60
_BY_WORKFLOW, _BY_RETRY, _BY_CRON = 1, 2, 3
"""ContinueAsNewInitiator."""
_OWN_ENDS = ("COMPLETED", "FAILED", "TIMED_OUT")
"""Ends of a run after which its schedule goes on."""


class CronOracle:
    """Watches the runs of chains with a schedule.

    Args:
        trace: what happened.
        models: every run that is there, by key.
    """

    def __init__(self, trace: Trace, models: dict[RunKey, RunModel]) -> None:
        self._trace = trace
        self._models = models
        self._due: dict[RunKey, int] = {}
        """When the first workflow task of each run with a schedule is due."""
        self._waiting: set[RunKey] = set()
        """Those of them that have had none."""

    def committed(self, state: RunState, events: Iterable[HistoryEvent]) -> None:
        """Checks a commit of a run that has a schedule."""
        if not state.header.cron_schedule:
            return
        for event in events:
            name = event_name(event)
            if name == "WORKFLOW_EXECUTION_STARTED":
                self._began(state.run, event)
            elif name == "WORKFLOW_TASK_SCHEDULED" and state.run in self._waiting:
                self._waiting.remove(state.run)
                # Who is asked to cancel hears of it at once, as on Temporal.
                on_time = event.event_time.ToNanoseconds() >= self._due[state.run]
                check(
                    on_time or state.header.cancel_requested,
                    "no run of a schedule begins early",
                    (state.run, event.event_id),
                )

    def _began(self, run: RunKey, event: HistoryEvent) -> None:
        attributes = event.workflow_execution_started_event_attributes
        now_ns = event.event_time.ToNanoseconds()
        due_ns = now_ns + attributes.first_workflow_task_backoff.ToNanoseconds()
        before = run._replace(run_id=attributes.continued_execution_run_id)
        initiator = attributes.initiator
        if initiator in (0, _BY_CRON):
            last_ns = self._due.get(before, now_ns) if before.run_id else now_ns
            wanted_ns = _next_ns(attributes.cron_schedule, last_ns, now_ns)
            # Delays are whole seconds.
            on_time = wanted_ns <= due_ns < wanted_ns + SECOND_NS
            check(on_time, "each run of a schedule is due at its next time", (run, due_ns, wanted_ns))
        self._due[run] = due_ns
        self._waiting.add(run)
        how = {0: "first", _BY_WORKFLOW: "continued", _BY_RETRY: "retried", _BY_CRON: "next"}[initiator]
        self._trace.reach(f"cron: {how} run")

    def check_chains(self, written: Iterable[RunKey]) -> None:
        """Checks after a commit of several runs that each one that has ended is followed by the right one."""
        for run in written:
            model = self._models.get(run)
            if run in self._due and model is not None and model.close_event is not None:
                self._check_followed(run, model, model.close_event)

    def _check_followed(self, run: RunKey, model: RunModel, closing: HistoryEvent) -> None:
        name = event_name(closing).removeprefix("WORKFLOW_EXECUTION_")
        attributes = attributes_of(closing)
        next_run_id = getattr(attributes, "new_execution_run_id", "")
        if name not in _OWN_ENDS:
            check(not next_run_id or name == "CONTINUED_AS_NEW", "who is ended from outside stays ended", run)
            return
        following = self._models.get(run._replace(run_id=next_run_id))
        check(following is not None, "a run of a schedule is followed in the commit that ends it", run)
        assert following is not None
        assert following.started_event is not None
        assert model.started_event is not None
        started = following.started_event.workflow_execution_started_event_attributes
        check(started.continued_execution_run_id == run.run_id, "a run follows one", (run, next_run_id))
        if started.initiator != _BY_CRON:
            return
        self._trace.reach(f"cron: {name.lower().replace('_', ' ')}, and goes on")
        own = model.started_event.workflow_execution_started_event_attributes
        last: Any = attributes.result if name == "COMPLETED" else own.last_completion_result
        check(started.last_completion_result == last, "the next run is told the last result", run)
        failed = started.HasField("continued_failure")
        check(failed == (name != "COMPLETED"), "the next run is told of a failure", run)


def _next_ns(schedule: str, last_ns: int, now_ns: int) -> int:
    """The time of a schedule after the one before, not before now."""
    if now_ns < last_ns:
        return last_ns
    every_s = int(schedule[len("@every ") : -1]) if schedule.startswith("@every") else _MINUTE_S
    every_ns, first_ns = every_s * SECOND_NS, last_ns - last_ns % SECOND_NS
    if every_s == _MINUTE_S:
        first_ns -= first_ns % every_ns
    passed = max(-(-(now_ns - first_ns) // every_ns), 1)
    found = first_ns + passed * every_ns
    return found if found > last_ns else found + every_ns
