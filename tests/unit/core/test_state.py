"""The encoding of a run's state: complete, exact, small, and refused where it is not ours."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.errors import InvariantViolation
from perdure.core.run.items import decode_run
from perdure.core.run.state import (
    Activity,
    RunHeader,
    Timer,
    Versioning,
    clone,
    decoder,
    encode,
)
from tests.support.builders import payload, schedule_activity, start_timer, upsert_search_attributes
from tests.unit.core.driver import QUEUE, RUN, Driver, begun

KINDS = (RunHeader, Activity, Timer)
VERSIONING = "perdure.core.run.state.Versioning | None"


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def _values(field: msgspec.structs.FieldInfo) -> st.SearchStrategy[Any]:
    """Values of a field's type, away from its default where possible."""
    return {
        "str": st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1),
        "bytes": st.binary(min_size=1),
        "int": st.integers(-(2**63), 2**63 - 1),
        "bool": st.booleans(),
        "float": st.floats(allow_nan=False, allow_infinity=False),
        "list[int]": st.lists(st.integers(), min_size=1),
        "list[str]": st.lists(st.text(alphabet="abc"), min_size=1),
        VERSIONING: st.builds(Versioning, version=st.text(alphabet="abc", min_size=1)),
    }[_name(field.type)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_every_field_survives_encoding(kind: type[Any], data: st.DataObject) -> None:
    values = {
        field.name: data.draw(_values(field), label=field.name) for field in msgspec.structs.fields(kind)
    }
    value = kind(**values)
    assert decoder(kind)(encode(value)) == value


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_take_no_space(kind: type[Any]) -> None:
    assert encode(kind()) == b"{}"
    assert decoder(kind)(b"{}") == kind()


def test_a_field_of_a_newer_release_is_refused() -> None:
    """Dropping what it does not know would lose it at the next write."""
    with pytest.raises(msgspec.ValidationError, match="invented_later"):
        decoder(RunHeader)(json.dumps({"invented_later": 1}).encode())


@pytest.mark.parametrize("value", [RunHeader(status=2), Activity(attempt=3), Timer("t")])
def test_a_clone_is_equal_and_separate(value: Any) -> None:
    copied = clone(value)
    assert copied == value
    setattr(copied, msgspec.structs.fields(type(value))[0].name, "changed")
    assert copied != value


def test_an_unknown_kind_of_item_is_refused() -> None:
    with pytest.raises(InvariantViolation, match="unknown kind of item"):
        decode_run(RUN, 1, b"{}", [("invented", "key", b"")], None)


def test_a_whole_run_survives_storing() -> None:
    """With every kind of item at once; the driver compares after each commit, here the kinds are named."""
    driver = begun(priority={"priority_key": 2})
    driver.complete(
        schedule_activity("a", QUEUE, heartbeat_s=3),
        start_timer("t", 60),
        upsert_search_attributes({"Kw": payload("word")}),
        force_create_new_workflow_task=True,
    )
    driver.poll()
    driver.signal(request_id="once")
    assert {kind for kind, _ in driver.items} == {"activity", "timer", "buffered", "signal", "blob"}


def test_buffered_events_keep_their_order_over_storing() -> None:
    """More than ten: keys that sort as text must sort as numbers."""
    driver = begun()
    driver.poll()
    for number in range(12):
        driver.signal(f"signal-{number}")
    reloaded = Driver()
    reloaded.state = decode_run(
        RUN,
        driver.state.version,
        encode(driver.header),
        sorted((kind, key, data) for (kind, key), data in driver.items.items()),
        driver.state.wakeup_ns,
    )
    reloaded.now_ns = driver.now_ns
    tx = reloaded.transition()
    tx.header.task_started_event_id = 0
    tx.flush()
    names = [event.workflow_execution_signaled_event_attributes.signal_name for event in tx.events]
    assert names == [f"signal-{number}" for number in range(12)]


def test_derived_properties() -> None:
    assert RunHeader().is_open
    assert not RunHeader(status=2).is_open
    assert RunHeader(task_scheduled_event_id=2).has_pending_task
    assert not RunHeader(task_scheduled_event_id=2).has_started_task
    assert RunHeader(task_started_event_id=3).has_started_task
    assert RunHeader(task_attempt=2).is_task_transient
    assert Activity(first_scheduled_ns=5).expiration_ns == 0
    assert Activity(first_scheduled_ns=5, schedule_to_close_ns=7).expiration_ns == 12
