"""What is known to be true of callbacks that come with updates: each is delivered at least once, and says how it ended.

A callback is known by its address, which nobody else has. What the durable store says of it is compared with what has
come to that address.
"""

from __future__ import annotations

import msgspec

from perdure.core.run import callback
from perdure.core.run.records import RunKey
from perdure.core.run.state import Callback, RunState
from tests.simulation.model import check
from tests.simulation.trace import Trace


def url_of(item: Callback) -> str:
    """Where a callback goes."""
    return callback.message(item).nexus.url


class CallbackOracle:
    """Watches callbacks of updates.

    Args:
        trace: what happened.
        states: of the runs, as stored.
    """

    def __init__(self, trace: Trace, states: dict[RunKey, RunState]) -> None:
        self._trace = trace
        self._states = states
        self._runs: dict[str, dict[RunKey, int]] = {}
        """The runs that have a callback with this address: more than one after a reset; and its key there."""
        self._arrivals: dict[str, int] = {}
        self._taken: set[str] = set()
        self._refused: set[str] = set()
        self._due: set[tuple[RunKey, int]] = set()
        self._taken_along: list[tuple[str, RunKey, bool]] = []
        """Of updates under way in runs that resets have closed: the new run, and whether that one is to tell."""

    # --- what is stored

    def committed(self, previous: RunState | None, state: RunState) -> None:
        """Looks at a commit of any workflow run."""
        before = previous.callbacks.values() if previous is not None else ()
        for key, item in state.callbacks.items():
            if not item.update_id:
                continue
            known = previous.callbacks.get(key) if previous is not None else None
            if known == item and (previous is None or previous.header.is_open == state.header.is_open):
                continue
            url = url_of(item)
            if known is None and any(other.update_id == item.update_id for other in before):
                self._trace.reach("update: callback attached")
            self._runs.setdefault(url, {})[state.run] = key
            ended = item.update_ended_ns > 0
            goes_on = state.header.is_open or bool(state.header.reset_run_id)
            check(ended or goes_on, "an update ends with its run", (state.run, item))
            if previous is not None and previous.header.is_open and state.header.reset_run_id:
                self._closed_by_reset(state, item, url)
            if item.end_state:
                self._due.discard((state.run, key))
                self._ended(url, item)
            elif ended:
                self._due.add((state.run, key))

    def _closed_by_reset(self, state: RunState, item: Callback, url: str) -> None:
        update = state.updates.get(item.update_id)
        if not item.rejection and (update is None or not update.completed_event_id):
            new = state.run._replace(run_id=state.header.reset_run_id)
            self._taken_along.append((url, new, not item.update_ended_ns))

    def _ended(self, url: str, item: Callback) -> None:
        delivered = item.end_state == callback.SUCCEEDED
        came = url in (self._taken if delivered else self._refused)
        check(came, "a callback ends as whoever was called has answered", (url, item))
        self._trace.reach(f"update: callback ended, state {item.end_state}")

    def reset(self) -> None:
        """A reset is durable: what the new run has of its base is told by that run, all else by the base."""
        for url, new, is_taken in self._taken_along:
            there = new in self._runs[url]
            check(
                there == is_taken,
                "one of two runs tells of an update that was under way",
                (url, new, is_taken),
            )
            self._trace.reach(f"update: callback {'taken along' if is_taken else 'left behind'} by a reset")
        self._taken_along.clear()

    def kept_by(self, run: RunKey, url: str) -> str:
        """The run that calls back: this one, or that which a reset has put in its place while the update went on."""
        state, key = self._states.get(run), self._runs.get(url, {}).get(run)
        if state is None or key is None or state.header.is_open or state.callbacks[key].update_ended_ns:
            return run.run_id
        return state.header.reset_run_id

    def removed(self, run: RunKey) -> None:
        """A run was deleted, and with it whatever it owed."""
        self._due = {due for due in self._due if due[0] != run}

    def open(self) -> list[RunKey]:
        """Runs that owe a callback: an update has ended, or the run has, and nobody has answered for good."""
        return [run for run, _ in self._due]

    # --- what was acknowledged, and what comes

    def acknowledged(self, run: RunKey, update_id: str, url: str) -> None:
        """An update that brought this callback was said to be accepted.

        Who came second, before a worker was told of the update, is called by nobody, as on Temporal; the first is.
        """
        state = self._states.get(run)
        if state is not None:
            there = any(item.update_id == update_id for item in state.callbacks.values())
            check(there, "the callback of an acknowledged update is durable", (run, url))

    def is_known(self, run: RunKey, url: str) -> bool:
        """Whether a run has a callback with this address."""
        return run in self._runs.get(url, ())

    def arrives(self, url: str, outcome: str, body: bytes) -> None:
        """Somebody is called."""
        self._arrivals[url] = self._arrivals.get(url, 0) + 1
        if self._arrivals[url] > 1:
            self._trace.reach("update: called back again")
        runs = self._runs.get(url, {})
        check(runs, "only what is durable is called", url)
        left = [(self._states[run], key) for run, key in runs.items() if run in self._states]
        if len(left) < len(runs):
            return  # deleted meanwhile, perhaps the one that calls
        told = [_told(state, key) for state, key in left]
        result = body if outcome == "succeeded" else b""
        check((outcome, result) in told, "a callback tells what is durable", (url, outcome, body))
        self._trace.reach(f"update: called back, {outcome}")

    def answered(self, url: str, *, taken: bool) -> None:
        """Whoever was called answers: it took the news, or wants none for good."""
        (self._taken if taken else self._refused).add(url)


def _told(state: RunState, key: int) -> tuple[str, bytes]:
    """What the stored state gives a callback to tell: the outcome, and the result if there is one."""
    item = state.callbacks[key]
    if not item.update_ended_ns:
        return "", b""
    update = state.updates.get(item.update_id)
    if update is not None and update.completed_event_id:
        return "succeeded", msgspec.json.encode(f"updated {item.update_id}")
    return "failed", b""
