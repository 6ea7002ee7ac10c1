"""Histories that other Pythons recorded replay on this one: a workflow of asyncio's own primitives.

`python -m tests.unit.workflow.test_recorded` records on the Python that runs it; once for each, when a Python is added
or the workflow below has changed. Histories that no longer replay for another reason tell of a broken promise to users.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from platform import python_version_tuple

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowHistory
from perdure.testing import WorkflowEnvironment
from perdure.worker import Replayer, Worker
from perdure.worker.workflow_code.logic_flags import LogicFlag

from .driver import pause

RECORDED = Path(__file__).with_name("recorded")
WORKFLOW_ID = "primitives"
SOON_S, NEVER_S = 0.02, 600
KINDS = (LogicFlag.ASYNCIO_OF_3_11, LogicFlag.ASYNCIO_OF_3_12)


@activity.defn
async def echo(word: str) -> str:
    """Says the same."""
    return word


async def ask(word: str) -> str:
    """In the history: who came first."""
    return await workflow.execute_activity(echo, word, start_to_close_timeout=timedelta(seconds=10))


@workflow.defn
class Primitives:
    """Goes through what asyncio offers; whoever goes on first asks first."""

    def __init__(self) -> None:
        self.heard = asyncio.Queue[str]()
        self.lock = asyncio.Lock()
        self.wanted = asyncio.Condition()

    @workflow.run
    async def run(self) -> None:
        """One after the other."""
        await asyncio.gather(asyncio.wait_for(ask("limited"), NEVER_S), ask("beside"))
        await self.gather_what_is_done()
        await self.run_into_limits()
        await self.fail_in_a_group()
        await self.hand_over()
        await self.take_turns()
        await self.wait_for_some()
        await asyncio.wait_for(self.heard.get(), NEVER_S)

    @workflow.signal
    async def say(self, word: str) -> None:
        """Ends the workflow."""
        async with self.lock:
            await self.heard.put(word)

    async def gather_what_is_done(self) -> None:
        """Beside one that counts turns."""
        done = asyncio.create_task(ask("done"))
        await asyncio.wait([done])

        async def after_a_turn() -> None:
            await pause(0)
            await ask("a turn later")

        beside = asyncio.create_task(after_a_turn())
        await asyncio.gather(done, done, return_exceptions=True)
        await asyncio.gather(ask("after what was done"), beside)

    async def run_into_limits(self) -> None:
        """Of three kinds."""
        late = [asyncio.create_task(pause(NEVER_S)) for _ in range(2)]
        for limited in (
            asyncio.wait_for(asyncio.shield(late[0]), SOON_S),
            asyncio.wait_for(asyncio.gather(pause(NEVER_S), ask("gathered")), 10 * SOON_S),
            workflow.wait_condition(late[1].done, timeout=SOON_S),
        ):
            try:
                await asyncio.gather(limited, ask("beside a limit"))
            except TimeoutError:
                await ask("too late")
        for each in late:
            each.cancel()
        try:
            async with asyncio.timeout(SOON_S):
                await asyncio.wait(late)
                await pause(NEVER_S)
        except TimeoutError:
            await ask("timed out")

    async def fail_in_a_group(self) -> None:
        """What the others of the group ask for is cancelled."""

        async def fail() -> None:
            await ask("fails")
            raise ValueError

        async def clean_up() -> None:
            try:
                await pause(NEVER_S)
            finally:
                await ask("clean up")

        try:
            async with asyncio.TaskGroup() as group:
                for work in (clean_up(), asyncio.wait_for(clean_up(), NEVER_S), fail()):
                    group.create_task(work)
        except* ValueError:
            await ask("failed")

    async def hand_over(self) -> None:
        """Through a queue with room for one."""
        queue = asyncio.Queue[str](1)

        async def produce(word: str) -> None:
            for number in range(2):
                await asyncio.wait_for(queue.put(f"{word} {number}"), NEVER_S)

        async def consume() -> None:
            while True:
                await ask(await asyncio.wait_for(queue.get(), NEVER_S))
                queue.task_done()

        consumers = [asyncio.create_task(consume()) for _ in range(2)]
        await asyncio.gather(produce("a"), produce("b"))
        await queue.join()
        for each in consumers:
            each.cancel()
        await asyncio.gather(*consumers, return_exceptions=True)

    async def take_turns(self) -> None:
        """With a lock, a semaphore, a condition and an event."""
        semaphore, event = asyncio.Semaphore(2), asyncio.Event()

        async def one(number: int) -> None:
            async with semaphore:
                await asyncio.wait_for(self.lock.acquire(), NEVER_S)
                await ask(f"locked {number}")
                self.lock.release()
            async with self.wanted:
                await asyncio.wait_for(event.wait(), NEVER_S)
                await ask(f"held {number}")
                self.wanted.notify()

        tasks = [asyncio.create_task(one(number)) for number in range(3)]
        async with self.wanted:
            event.set()
            await asyncio.wait_for(self.wanted.wait(), NEVER_S)
        await asyncio.gather(*tasks)

    async def wait_for_some(self) -> None:
        """The first, and each as it comes."""
        tasks = {asyncio.create_task(asyncio.wait_for(ask(f"some {number}"), NEVER_S)) for number in range(2)}
        _, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await ask(f"rest {len(rest)}")
        for each in workflow.as_completed([ask("either"), ask("or")], timeout=NEVER_S):
            await ask(f"came {await each}")


def recorded() -> list[Path]:
    """One file for each Python."""
    return sorted(RECORDED.glob("*.json"))


async def _replay(text: str) -> None:
    await Replayer(workflows=[Primitives]).replay_workflow(WorkflowHistory.from_json(WORKFLOW_ID, text))


def _flags(text: str) -> set[int]:
    """Which behaviour the history says that its run has."""
    events = WorkflowHistory.from_json(WORKFLOW_ID, text).events
    return {
        flag
        for event in events
        for flag in event.workflow_task_completed_event_attributes.sdk_metadata.lang_used_flags
    }


def test_both_kinds_are_recorded() -> None:
    assert {flag for path in recorded() for flag in _flags(path.read_text())} == set(KINDS)


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.stem)
def test_what_another_python_recorded_replays(path: Path) -> None:
    asyncio.run(_replay(path.read_text()))


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.stem)
def test_as_the_other_kind_it_would_be_refused(path: Path) -> None:
    """So the workflow does something that depends on it."""
    text = path.read_text()
    (kind,) = _flags(text)
    (other,) = set(KINDS) - {kind}
    with pytest.raises(workflow.NondeterminismError):
        asyncio.run(_replay(text.replace(f'"langUsedFlags": [{kind}]', f'"langUsedFlags": [{other}]')))


async def record() -> str:
    """One run, on a server of its own."""
    async with await WorkflowEnvironment.start_local(identity="recorder") as environment:
        client: Client = environment.client
        async with Worker(client, task_queue="recorded", workflows=[Primitives], activities=[echo]):
            handle = await client.start_workflow(Primitives.run, id=WORKFLOW_ID, task_queue="recorded")
            await handle.signal(Primitives.say, "end")
            await handle.result()
            events = (await handle.fetch_history()).to_json_dict()["events"]
    return '{"events": [\n' + ",\n".join(map(json.dumps, events)) + "\n]}\n"


if __name__ == "__main__":
    RECORDED.mkdir(exist_ok=True)
    text = asyncio.run(record())
    asyncio.run(_replay(text))
    (RECORDED / f"{'.'.join(python_version_tuple()[:2])}.json").write_text(text)
