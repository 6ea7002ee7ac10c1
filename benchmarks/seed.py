"""Fills a SQLite file with many closed and open runs: real ones, copied through the public store protocol.

How a run looks in the database is the store's business. So one closed and one open run are made by real requests to
a real server; then, with the server stopped, they are read back and written again under other ids of the same
length, which is safe inside any encoding. Nothing here knows a table or a field of the engine.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import fields, replace
from temporalio.api.command.v1 import Command
from temporalio.api.enums.v1 import CommandType
from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueResponse

from benchmarks.requests import Methods, RequestTemplates, first_bytes_field
from benchmarks.targets import NAMESPACE, TARGETS, running
from benchmarks.wire import RawChannel, connect
from perdure.core.run.records import EventBatch, ItemChange, RunKey, RunWrite, VisibilityRecord
from perdure.store.protocol import StoredRun
from perdure.store.sqlite import SqliteStore

UNIT = 250
HISTORY_MAX_BYTES = 1 << 20
QUEUE = "seed-queue"
OPEN_TIMER_S = 30 * 86_400
CLOSED_ID, OPEN_ID = "seed-closed-00000000", "seed-opened-00000000"


@dataclass(frozen=True)
class Template:
    """A stored run as it is read back."""

    stored: StoredRun
    batches: tuple[EventBatch, ...]
    record: VisibilityRecord
    start_request_id: str
    first_run_id: str


def timer_command() -> Command:
    """A timer that will not fire while anyone measures: what an open run waits for."""
    command = Command(command_type=CommandType.COMMAND_TYPE_START_TIMER)
    command.start_timer_command_attributes.timer_id = "1"
    command.start_timer_command_attributes.start_to_fire_timeout.seconds = OPEN_TIMER_S
    return command


async def make_originals(address: str) -> None:
    """Run one workflow to its end, and another up to a timer, by real requests."""
    channel = await connect(address)
    methods = Methods.of(address)
    templates = RequestTemplates(NAMESPACE, QUEUE, None, False, run_timeout_s=0)
    timer = templates.decision(NAMESPACE, None, timer_command())

    async def workflow_task(prefix: bytes) -> None:
        reply = await channel.unary(methods.poll_workflow, templates.poll_normal)
        token = PollWorkflowTaskQueueResponse.FromString(reply).task_token
        await channel.unary(methods.complete_workflow, templates.with_token(prefix, token))

    try:
        await channel.unary(methods.start, templates.start(CLOSED_ID.encode()))
        await workflow_task(templates.schedule_prefix)
        await complete_activity(channel, methods, templates)
        await workflow_task(templates.close_prefix)
        await channel.unary(methods.start, templates.start(OPEN_ID.encode()))
        await workflow_task(timer)
    finally:
        channel.close()


async def complete_activity(channel: RawChannel, methods: Methods, templates: RequestTemplates) -> None:
    """Take the one activity and complete it."""
    token = first_bytes_field(await channel.unary(methods.poll_activity, templates.poll_activity), 1)
    await channel.unary(methods.complete_activity, templates.with_token(templates.activity_prefix, token))


async def read_template(store: SqliteStore, namespace_id: str, workflow_id: str) -> Template:
    """Read a run whole."""
    page = await store.list_runs(namespace_id, None, 100, None)
    listed = next(row for row in page.rows if row.run.workflow_id == workflow_id)
    stored = await store.load_run(listed.run)
    current = await store.current_run(namespace_id, workflow_id)
    if stored is None or current is None:
        raise RuntimeError(f"{workflow_id} was not stored")
    batches = await store.read_history(listed.run, 1, 1 << 20, HISTORY_MAX_BYTES)
    return Template(stored, tuple(batches), listed.record, current.start_request_id, current.first_run_id)


def renamer(template: Template, run: RunKey) -> Callable[[Any], Any]:
    """A function that puts the ids of `run` in the place of the template's, in text or bytes."""
    old = template.stored.run
    pairs = [(old.workflow_id, run.workflow_id), (old.run_id, run.run_id)]
    if any(len(before) != len(after) for before, after in pairs):
        raise ValueError("ids of a copy must be as long as the original's")
    encoded = [(before.encode(), after.encode()) for before, after in pairs]

    def rename(value: Any) -> Any:
        if isinstance(value, str):
            for before, after in pairs:
                value = value.replace(before, after)
        elif isinstance(value, bytes):
            for before_bytes, after_bytes in encoded:
                value = value.replace(before_bytes, after_bytes)
        return value

    return rename


def copy_of(template: Template, number: int) -> RunWrite:
    """The write that stores the template again as another run of another workflow id."""
    stored = template.stored
    workflow_id = f"{stored.run.workflow_id[:-8]}{number:08d}"
    run = RunKey(stored.run.namespace_id, workflow_id, str(uuid.uuid4()))
    rename = renamer(template, run)
    record = template.record
    renamed = {field.name: rename(getattr(record, field.name)) for field in fields(record)}
    return RunWrite(
        run=run,
        expected_version=0,
        status=stored.status,
        header=rename(stored.header),
        wakeup_ns=stored.wakeup_ns,
        events=tuple(replace(batch, data=rename(batch.data)) for batch in template.batches),
        items=tuple(ItemChange(kind, rename(key), rename(data)) for kind, key, data in stored.items),
        visibility=replace(record, **renamed),
        becomes_current=True,
        start_request_id=rename(template.start_request_id),
        first_run_id=rename(template.first_run_id),
    )


async def copy_runs(path: Path, closed: int, opened: int, tell: Callable[[str], None]) -> None:
    """Write the copies into the file of a server that has stopped."""
    store = SqliteStore(path)
    await store.open()
    try:
        namespaces = await store.list_namespaces()
        namespace_id = next(row.namespace_id for row in namespaces if row.name == NAMESPACE)
        for workflow_id, count in ((CLOSED_ID, closed), (OPEN_ID, opened)):
            template, began = await read_template(store, namespace_id, workflow_id), time.perf_counter()
            for first in range(1, count + 1, UNIT):
                last = min(first + UNIT, count + 1)
                await store.commit([copy_of(template, number) for number in range(first, last)])
            tell(f"{count:,} copies of {workflow_id} in {time.perf_counter() - began:.1f} s")
    finally:
        await store.close()


def seed(path: Path, closed: int, opened: int, tell: Callable[[str], None]) -> None:
    """Make a new database file at `path` with `closed` closed and `opened` open runs (and one original each)."""
    if path.exists():
        raise FileExistsError(f"{path} exists; seeding makes a new file")
    with running(TARGETS["perdure-file"], path) as server:
        asyncio.run(make_originals(server.address))
    asyncio.run(copy_runs(path, closed, opened, tell))
    tell(f"{path}: {path.stat().st_size / 1e6:,.0f} MB")
