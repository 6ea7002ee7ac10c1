"""One workflow that does what a program of `programs.py` says, and the activities that it calls.

Every activity gets a digest of all that the workflow has seen so far, so a replay that sees anything else
asks for other commands.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from perdure import activity, workflow
from perdure.client import (
    Client,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from perdure.common import RetryPolicy, SearchAttributeKey
from perdure.exceptions import ApplicationError, FailureError
from perdure.service import RPCError
from tests.e2e.determinism.programs import Node

LIMIT: Final = timedelta(days=2)
COLOUR: Final = SearchAttributeKey.for_keyword("Colour")
_RETRIES: Final = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3)


class Activities:
    """What the workflow calls.

    Args:
        client: For pokes.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn
    async def act(self, mode: str, digest: str) -> str:
        """Do what `mode` says: succeed, fail, succeed the second time, or run until it is cancelled."""
        info = activity.info()
        if mode == "fail" or (mode == "retry" and info.attempt == 1):
            raise ApplicationError(f"{mode} {info.attempt}", non_retryable=mode == "fail")
        if mode == "heartbeat":
            activity.heartbeat(digest)
        return f"{mode} {digest}"

    @activity.defn
    async def poke(self, what: str) -> str:
        """Send something to the workflow that calls."""
        info = activity.info()
        handle = self._client.get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
        try:
            if what == "cancel":
                await handle.cancel()
            elif what == "queries":
                return str(await handle.query(Interpreter.length))
            elif what.endswith("signal"):
                await handle.signal(what, info.activity_id)
            else:
                await handle.start_update(
                    "update",
                    what == "rejected_update",
                    wait_for_stage=WorkflowUpdateStage.ACCEPTED,
                    rpc_timeout=timedelta(seconds=20),
                )
        except (RPCError, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
            # It closed before: nothing is to be sent to it any more. Which error it is, history keeps.
            return type(error).__name__
        return what


@workflow.defn
class Interpreter:
    """Does what a program says."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.signals = 0
        self.program: Node = {}
        self.lock = asyncio.Lock()

    @workflow.run
    async def run(self, program: Node, number: int = 0) -> str:
        self.program = program
        try:
            if program.get("is_cancelled"):
                stopping = asyncio.create_task(self._poke({"what": "cancel"}))
            await self.do(program["runs"][number])
            if program.get("is_cancelled"):
                await stopping
                await asyncio.sleep(100_000)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.create_task(self._activity({"mode": "ok"})))
            raise
        await workflow.wait_condition(workflow.all_handlers_finished)
        if program.get("fails"):
            raise ApplicationError("as planned", self._digest())
        if number + 1 < len(program["runs"]):
            workflow.continue_as_new(args=[program, number + 1])
        return self._digest()

    @workflow.signal
    def signal(self, text: str) -> None:
        self.signals += 1
        self.log.append(f"signal {text}")

    @workflow.signal(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def work_signal(self, text: str) -> None:
        self.log.append(f"work {text}")
        await self.do(self.program["handler"])
        self.signals += 1

    @workflow.update(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def update(self, is_rejected: bool) -> str:
        self.log.append("update")
        await self.do(self.program["handler"])
        return self._digest()

    @update.validator
    def validate(self, is_rejected: bool) -> None:
        if is_rejected:
            raise ValueError("no")

    @workflow.query
    def length(self) -> int:
        return len(self.log)

    # --- what a program may say ---

    async def do(self, node: Node) -> None:
        """Do one node; what fails is noted."""
        try:
            await _OPERATIONS[node["op"]](self, node)
        except (FailureError, TimeoutError) as error:
            self.log.append(f"{node['op']}: {type(error).__name__} {type(error.__cause__).__name__}")
        else:
            self.log.append(node["op"])

    def _digest(self) -> str:
        seen = [*self.log, workflow.now().isoformat(), str(workflow.random().random()), str(workflow.time())]
        return f"{len(self.log)} {hashlib.sha256(repr(seen).encode()).hexdigest()[:16]}"

    async def _activity(self, node: Node) -> None:
        result = await workflow.execute_activity(
            "act",
            args=[node["mode"], self._digest()],
            schedule_to_close_timeout=LIMIT,
            retry_policy=_RETRIES,
            heartbeat_timeout=timedelta(hours=1) if node["mode"] == "heartbeat" else None,
            cancellation_type=workflow.ActivityCancellationType[node.get("cancellation", "TRY_CANCEL")],
            result_type=str,
        )
        self.log.append(result)

    async def _local(self, node: Node) -> None:
        result = await workflow.execute_local_activity(
            "act",
            args=[node["mode"], self._digest()],
            start_to_close_timeout=LIMIT,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=3),
            result_type=str,
        )
        self.log.append(result)

    async def _timer(self, node: Node) -> None:
        if node["seconds"] == 60:
            await workflow.sleep(60, summary="a minute")
        else:
            await asyncio.sleep(node["seconds"])

    async def _condition(self, node: Node) -> None:
        wanted = self.signals + int(node["signals"])
        await workflow.wait_condition(lambda: self.signals >= wanted, timeout=node["seconds"])

    async def _patch(self, node: Node) -> None:
        if node["deprecated"]:
            workflow.deprecate_patch(node["name"])
        elif workflow.patched(node["name"]):
            await self._activity({"mode": "ok"})

    async def _uuid(self, node: Node) -> None:
        self.log.append(str(workflow.uuid4()))
        await workflow.execute_activity(
            "act", args=["ok", ""], activity_id=str(workflow.uuid4()), start_to_close_timeout=LIMIT
        )

    async def _memo(self, node: Node) -> None:
        workflow.upsert_memo({"digest": self._digest()})
        self.log.append(str(workflow.memo_value("digest")))

    async def _search(self, node: Node) -> None:
        workflow.upsert_search_attributes([COLOUR.value_set(self._digest()[-4:])])

    async def _external(self, node: Node) -> None:
        parent = workflow.info().parent
        target = parent.workflow_id if parent is not None and node["to"] == "parent" else "nobody"
        handle = workflow.get_external_workflow_handle(target)
        if node["does"] == "cancel" and target == "nobody":
            await handle.cancel()
        else:
            await handle.signal("signal", self._digest())

    async def _poke(self, node: Node) -> None:
        result = await workflow.execute_activity(
            "poke", node["what"], schedule_to_close_timeout=LIMIT, result_type=str
        )
        self.log.append(result)

    async def _turn(self, node: Node) -> None:
        await asyncio.sleep(0)

    async def _metric(self, node: Node) -> None:
        workflow.metric_meter().create_counter("turns").add(1)
        workflow.logger.info("a turn")
        workflow.set_current_details(self._digest())

    async def _fail(self, node: Node) -> None:
        raise ApplicationError("planned")

    async def _side(self, node: Node) -> None:
        """Begin something that nobody waits for."""
        self.log.append("side")
        task = asyncio.create_task(self.do(node["node"]))
        task.add_done_callback(lambda _: self.log.append("side ended"))

    async def _sequence(self, node: Node) -> None:
        for each in node["nodes"]:
            await self.do(each)

    async def _gather(self, node: Node) -> None:
        await asyncio.gather(*map(self.do, node["nodes"]))

    async def _race(self, node: Node) -> None:
        tasks = [
            asyncio.create_task(self.do(each), name=f"racer {i}") for i, each in enumerate(node["nodes"])
        ]
        try:
            if node["how"] == "as_completed":
                for first in workflow.as_completed(tasks):
                    await first
                    break
            elif node["how"] == "wait":
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            else:
                await workflow.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self.log.append("".join(str(int(task.done())) for task in tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _group(self, node: Node) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for each in node["nodes"]:
                    if each["op"] == "fail":
                        group.create_task(self._fail(each))
                    else:
                        group.create_task(self.do(each))
        except ExceptionGroup as errors:
            self.log.append(str(len(errors.exceptions)))

    async def _limit(self, node: Node) -> None:
        if node["how"] == "timeout":
            async with asyncio.timeout(node["seconds"]):
                await self.do(node["node"])
        else:
            await asyncio.wait_for(self.do(node["node"]), node["seconds"])

    async def _stopped(self, node: Node) -> None:
        async def shielded() -> None:
            await asyncio.shield(asyncio.create_task(self.do(node["node"])))

        task = asyncio.create_task(shielded() if node["shielded"] else self.do(node["node"]))
        if node["after"] == "a turn":
            await asyncio.sleep(0)
        elif node["after"] == "a timer":
            await asyncio.wait([task], timeout=1)
        elif node["after"] == "a signal":
            await self.do({"op": "poke", "what": "signal"})
        task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        self.log.append(type(result).__name__)

    async def _child(self, node: Node) -> None:
        options: dict[str, Any] = {}
        if node["id"] == "uuid":
            options["id"] = f"{workflow.info().workflow_id}/{workflow.uuid4()}"
        elif node["id"] == "random":
            options["id"] = f"{workflow.info().workflow_id}/{workflow.random().getrandbits(64)}"
        program = {"runs": [node["node"]], "handler": {"op": "turn"}}
        cancellation = workflow.ChildWorkflowCancellationType[node["cancellation"]]
        policy = workflow.ParentClosePolicy
        handle = await workflow.start_child_workflow(
            Interpreter.run,
            args=[program],
            cancellation_type=cancellation,
            parent_close_policy=policy.ABANDON if node["does"] == "abandon" else policy.TERMINATE,
            **options,
        )
        self.log.append(f"{handle.id} {handle.first_execution_run_id}")
        if node["does"] == "abandon":
            return
        if node["does"] == "signal":
            await handle.signal(Interpreter.signal, self._digest())
        elif node["does"] == "cancel":
            handle.cancel()
        try:
            self.log.append(str(await handle))
        except asyncio.CancelledError:
            if asyncio.current_task() is not None and node["does"] != "cancel":
                raise
            self.log.append("child cancelled")

    async def _locked(self, node: Node) -> None:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        semaphore, event = asyncio.Semaphore(2), asyncio.Event()

        async def one(number: int, each: Node) -> None:
            if node["how"] == "lock":
                async with self.lock if not self.lock.locked() else asyncio.Lock():
                    await self.do(each)
            elif node["how"] == "semaphore":
                async with semaphore:
                    await self.do(each)
            elif node["how"] == "queue":
                await self.do(each)
                await queue.put(number)
            else:
                if number:
                    await event.wait()
                await self.do(each)
                event.set()

        async def drain() -> None:
            if node["how"] == "queue":
                for _ in node["nodes"]:
                    self.log.append(f"queue {await queue.get()}")

        await asyncio.gather(drain(), *(one(i, each) for i, each in enumerate(node["nodes"])))


Operation = Callable[[Interpreter, Node], Awaitable[None]]
_OPERATIONS: Final[dict[str, Operation]] = {
    name: getattr(Interpreter, f"_{name}")
    for name in (
        *("activity", "local", "timer", "condition", "patch", "uuid", "memo", "search", "external", "poke"),
        *("turn", "metric", "fail", "side", "sequence", "gather", "race", "group", "limit", "stopped"),
        *("child", "locked"),
    )
}
