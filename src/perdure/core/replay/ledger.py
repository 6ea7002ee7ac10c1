"""What a run knows between history and code: machines, commands that wait for their event, jobs for the code.

Machines write into it; `walk.py` feeds it with events, `run.py` with instructions.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from perdure.api.common.v1 import Payload
from perdure.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from perdure.api.protocol.v1 import Message
from perdure.core.replay.activation import Job, ResolveActivity
from perdure.core.replay.errors import NondeterminismError
from perdure.core.replay.events import describe
from perdure.core.replay.flags import Flags
from perdure.core.replay.machines.base import Machine
from perdure.core.replay.markers import LocalActivityMarker
from perdure.core.replay.steps import RunConfig

if TYPE_CHECKING:
    from perdure.core.replay.machines.activity import ActivityMachine
    from perdure.core.replay.machines.cancel_external import CancelExternalMachine
    from perdure.core.replay.machines.child_workflow import ChildMachine
    from perdure.core.replay.machines.local_activity import LocalActivityMachine
    from perdure.core.replay.machines.nexus import NexusMachine
    from perdure.core.replay.machines.signal_external import SignalExternalMachine
    from perdure.core.replay.machines.timer import TimerMachine
    from perdure.core.replay.machines.update import UpdateMachine


class Ledger:
    """The state that machines of one run share.

    Attributes:
        replaying: history already says what the code will ask for.
        is_last_task: the events at hand belong to the last workflow task in history.
        now_ns: workflow time; never goes back.
        jobs: for the next activation, in order of arrival.
        local_jobs: resolutions of local activities, told behind the other jobs.
        local_due: markers seen ahead that say in which activation they are told, in the order of history.
        activation_index: number of the next activation, counted from 0 in each workflow task.
        local_time_ns: workflow time when the latest of them ended.
        commands: (machine, type of the event that records it), waiting for their events.
        by_event_id: machines by the event that recorded their first command, while more events may refer to it.
        outbox: protocol messages to send with the next completion.
        upserted: search attributes that the code changed.
        patches: patch ids; False: seen in history, True: the code asked for it.
        local_markers: of local activities, seen ahead in history, by seq.
        local_places: by seq, the order of the markers in history that do not say when they were told.
        local_queue: seqs of local activities to start.
        local_cancels: seqs of running local activities to cancel.
        local_running: seqs of local activities that this worker executes.
        local_abandoned: seqs of those among them that the code waits for no more.
        has_local_activities: the code has used any so far.
    """

    __slots__ = (
        "activation_index",
        "activities",
        "by_event_id",
        "cancels",
        "children",
        "commands",
        "config",
        "flags",
        "has_local_activities",
        "is_complete",
        "is_last_task",
        "jobs",
        "local_abandoned",
        "local_activities",
        "local_cancels",
        "local_due",
        "local_jobs",
        "local_markers",
        "local_places",
        "local_queue",
        "local_running",
        "local_time_ns",
        "nexus_operations",
        "now_ns",
        "outbox",
        "patches",
        "replaying",
        "run_id",
        "signals",
        "started",
        "timers",
        "updates",
        "upserted",
        "workflow_id",
    )

    def __init__(self, workflow_id: str, run_id: str, config: RunConfig) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.config = config
        self.flags = Flags(config.records_sdk_metadata, config.sdk_name, config.sdk_version)
        self.replaying = False
        self.is_last_task = False
        self.is_complete = False
        self.now_ns = 0
        self.started: WorkflowExecutionStartedEventAttributes | None = None
        self.jobs: list[Job] = []
        self.local_jobs: list[ResolveActivity] = []
        self.local_due: deque[LocalActivityMarker] = deque()
        self.activation_index = 0
        self.local_time_ns = 0
        self.commands: deque[tuple[Machine, int]] = deque()
        self.by_event_id: dict[int, Machine] = {}
        self.outbox: list[Message] = []
        self.upserted: dict[str, Payload] = {}
        self.patches: dict[str, bool] = {}
        self.timers: dict[int, TimerMachine] = {}
        self.activities: dict[int, ActivityMachine] = {}
        self.children: dict[int, ChildMachine] = {}
        self.signals: dict[int, SignalExternalMachine] = {}
        self.cancels: dict[int, CancelExternalMachine] = {}
        self.nexus_operations: dict[int, NexusMachine] = {}
        self.updates: dict[str, UpdateMachine] = {}
        self.local_activities: dict[int, LocalActivityMachine] = {}
        self.local_markers: dict[int, LocalActivityMarker] = {}
        self.local_places: dict[int, int] = {}
        self.local_queue: list[int] = []
        self.local_cancels: list[int] = []
        self.local_running: set[int] = set()
        self.local_abandoned: set[int] = set()
        self.has_local_activities = False

    def advance_to(self, time_ns: int) -> None:
        """Workflow time goes on to `time_ns`, if that is later."""
        self.now_ns = max(self.now_ns, time_ns)

    def differs(self, event: HistoryEvent, machine: Machine, kind: int) -> NondeterminismError:
        """The code's next command is another one than history recorded."""
        return NondeterminismError(event.event_id, describe(event), machine.asked(kind), machine.source)

    def unexpected(self, event: HistoryEvent, machine: Machine, kind: int) -> NondeterminismError:
        """History tells of something that cannot happen to what the code asked for."""
        asked = f"{machine.asked(kind)}, which cannot end like this"
        return NondeterminismError(event.event_id, describe(event), asked, machine.source)

    def front(self) -> tuple[Machine, int] | None:
        """The next command that waits for its event; those taken back before they were sent are dropped."""
        commands = self.commands
        while commands:
            entry = commands[0]
            if not entry[0].dropped:
                return entry
            commands.popleft()
        return None
