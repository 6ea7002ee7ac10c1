"""Patches: markers as the official workers write them, and what may change around them."""

from __future__ import annotations

import json

from perdure.core.replay.activation import NotifyHasPatch
from perdure.core.replay.errors import NondeterminismError
from perdure.core.replay.steps import TaskCompletion
from tests.support.builders import payload
from tests.support.proto import common
from tests.unit.replay.bench import Bench
from tests.unit.replay.code import Code, Context, Main


async def plain(context: Context) -> None:
    await context.timer(1)
    await context.activity("old")


async def patched(context: Context) -> None:
    await context.timer(1)
    if context.patched("p"):
        await context.activity("new")
    else:
        await context.activity("old")


async def deprecated(context: Context) -> None:
    await context.timer(1)
    context.patched("p", deprecated=True)
    await context.activity("new")


async def without(context: Context) -> None:
    await context.timer(1)
    await context.activity("new")


def history(main: Main) -> Bench:
    bench = Bench(lambda: Code(main))
    bench.work()
    bench.fire()
    bench.work()
    bench.complete_activity()
    bench.work()
    bench.check_replay()
    return bench


def test_a_patch_is_a_marker_and_a_search_attribute() -> None:
    bench = Bench(lambda: Code(patched))
    bench.work()
    bench.fire()
    step = bench.handle()
    assert isinstance(step, TaskCompletion)
    marker = step.commands[0].record_marker_command_attributes
    assert marker.marker_name == "core_patch"
    (data,) = marker.details["patch-data"].payloads
    assert data == common.Payload(metadata={"encoding": b"json/plain"}, data=b'{"id":"p","deprecated":false}')
    upsert = step.commands[1].upsert_workflow_search_attributes_command_attributes
    versions = upsert.search_attributes.indexed_fields["TemporalChangeVersion"]
    assert versions.metadata == {"encoding": b"json/plain", "type": b"KeywordList"}
    assert json.loads(versions.data) == ["p"]


def test_the_search_attribute_names_all_patches_so_far() -> None:
    async def main(context: Context) -> None:
        context.patched("b")
        context.patched("a")
        context.patched("b")

    bench = Bench(lambda: Code(main))
    step = bench.handle()
    assert isinstance(step, TaskCompletion)
    upserts = [command.upsert_workflow_search_attributes_command_attributes for command in step.commands]
    values = [upsert.search_attributes.indexed_fields["TemporalChangeVersion"].data for upsert in upserts]
    assert values == [b"", b'["b"]', b"", b'["a","b"]', b""]


def test_no_search_attribute_when_it_would_be_too_long() -> None:
    async def main(context: Context) -> None:
        context.patched("x" * 3000)

    bench = Bench(lambda: Code(main))
    assert bench.work() == ["RECORD_MARKER", "COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()


def test_old_histories_take_the_old_branch() -> None:
    assert history(plain).replay(lambda: Code(patched)) is None


def test_patched_histories_take_the_new_branch_with_either_call() -> None:
    bench = history(patched)
    assert bench.replay(lambda: Code(deprecated)) is None
    code = Code(patched)
    assert bench.replay(lambda: code) is None
    assert [job for job in code.activations[1].jobs if isinstance(job, NotifyHasPatch)] == [
        NotifyHasPatch("p")
    ]
    assert isinstance(code.activations[1].jobs[0], NotifyHasPatch)


def test_deprecated_markers_may_be_left_out() -> None:
    bench = history(deprecated)
    assert bench.replay(lambda: Code(without)) is None
    assert bench.replay(lambda: Code(patched)) is None


def test_a_removed_patch_is_noticed() -> None:
    failure = history(patched).replay(lambda: Code(without))
    assert failure is not None
    assert isinstance(failure.error, NondeterminismError)
    assert failure.error.event_id == 10
    assert "workflow.patched('p')" in failure.error.recorded
    assert "deprecate_patch" in str(failure.error)


def test_a_renamed_patch_is_noticed() -> None:
    async def renamed(context: Context) -> None:
        await context.timer(1)
        await context.activity("new" if context.patched("q") else "old")

    failure = history(patched).replay(lambda: Code(renamed))
    assert failure is not None
    assert isinstance(failure.error, NondeterminismError)


def test_a_patch_without_the_flag_writes_no_search_attribute_on_replay() -> None:
    """Histories from before the search attribute replay."""
    bench = history(patched)
    without_upsert = [
        event
        for event in bench.events
        if not event.HasField("upsert_workflow_search_attributes_event_attributes")
    ]
    for number, event in enumerate(without_upsert, start=1):
        event.event_id = number
        if event.HasField("workflow_task_completed_event_attributes"):
            event.workflow_task_completed_event_attributes.ClearField("sdk_metadata")
    for event in without_upsert:
        if event.HasField("activity_task_started_event_attributes"):
            event.activity_task_started_event_attributes.scheduled_event_id = event.event_id - 1
        if event.HasField("activity_task_completed_event_attributes"):
            event.activity_task_completed_event_attributes.scheduled_event_id = event.event_id - 2
    bench.events = without_upsert
    assert bench.replay() is None


def test_the_version_attribute_is_not_for_users() -> None:
    async def main(context: Context) -> None:
        context.upsert(TemporalChangeVersion="mine")
        context.upsert(Kw="value")

    bench = Bench(lambda: Code(main))
    step = bench.handle()
    assert isinstance(step, TaskCompletion)
    fields = [
        dict(command.upsert_workflow_search_attributes_command_attributes.search_attributes.indexed_fields)
        for command in step.commands[:2]
    ]
    assert fields == [{}, {"Kw": payload("value")}]
