"""Every RPC × every field of its request × every kind of wrong value: a typed error or the response, and soon.

A request that would be served is spoiled in one field at a time, down to `DEPTH` messages inside each other. What is
random is in `test_hostile_requests`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE, rpcs
from perdure.core.errors import ServiceError
from perdure.server.doors.status import answer_to
from tests.unit.server.test_hostile_requests import Running

DEPTH = 3
LONG = "x" * 100_000
"""Longer than any name may be, shorter than any message."""
MANY = 300
BOUND_S = 10.0
_INTERNAL, _UNKNOWN = 13, 2
_INTEGERS = (-1, 0, 2**31 - 1, -(2**31))
_FLOATS = (float("nan"), float("inf"), -1.0, 0.0)
_TEXTS = ("", LONG, "no such thing", "\0 '\" \U0001f600")
_BYTES = (b"", b"\xff\xfe no token", b"\x08\x01" * 40)
_TIMES: dict[str, tuple[tuple[int, int], ...]] = {
    "google.protobuf.Duration": ((-5, 0), (0, -1), (10**12, 0), (1, 2_000_000_000), (1, -1)),
    "google.protobuf.Timestamp": ((-(10**12), 0), (10**12, 0), (1, -1), (1, 2_000_000_000)),
}
"""Seconds and nanoseconds: negative, beyond what the type may hold, signs that differ."""
PATHS = [
    f"/{service}/{rpc.name}" for service in (WORKFLOW_SERVICE, OPERATOR_SERVICE) for rpc in rpcs(service)
]
Spoil = Callable[[Any], None]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """A server of this module's own: what the requests do to it must not meet other tests."""
    running = Running()
    yield running
    running.loop.run_until_complete(running.server.stop(0))
    running.loop.close()


# --- wrong values ---


def spoiled(descriptor: Any, depth: int = 0) -> Iterator[tuple[str, Spoil]]:
    """Ways to spoil a message of this type, one field at a time, each with its name."""
    for field in descriptor.fields:
        if field.is_repeated:
            yield from _spoiled_list(field)
        elif field.message_type is None:
            for value in _wrong(field):
                yield f"{field.name}={_shown(value)}", _setting(field.name, value)
        elif field.message_type.full_name in _TIMES:
            for seconds, nanos in _TIMES[field.message_type.full_name]:
                yield f"{field.name}={seconds}s {nanos}ns", _timing(field.name, seconds, nanos)
        else:
            yield f"{field.name} absent", _clearing(field.name)
            yield f"{field.name} empty", _emptying(field.name)
            if depth < DEPTH:
                for name, spoil in spoiled(field.message_type, depth + 1):
                    yield f"{field.name}.{name}", _inside(field.name, spoil)


def _spoiled_list(field: FieldDescriptor) -> Iterator[tuple[str, Spoil]]:
    message = field.message_type
    if message is None:
        for value in _wrong(field):
            yield f"{field.name}=[{_shown(value)}]", _listing(field.name, [value])
            yield f"{field.name}={MANY} of {_shown(value)[:9]}", _listing(field.name, [_small(value)] * MANY)
    elif message.GetOptions().map_entry:
        for key in _wrong(message.fields_by_name["key"]):
            yield f"{field.name}[{_shown(key)}]", _keying(field.name, key, message.fields_by_name["value"])
    else:
        yield f"{field.name}=[empty]", _adding(field.name, 1)
        yield f"{field.name}={MANY} empty", _adding(field.name, MANY)
        for name, spoil in spoiled(message, DEPTH):
            yield f"{field.name}[0].{name}", _adding(field.name, 1, spoil)


def _wrong(field: FieldDescriptor) -> tuple[Any, ...]:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return _BYTES if field.type == FieldDescriptor.TYPE_BYTES else _TEXTS
    if field.enum_type is not None:
        return (0, -1, 9_999, max(field.enum_type.values_by_number))
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return _FLOATS
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return (True, False)
    if kind in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
        return tuple(value for value in _INTEGERS if value >= 0)
    return _INTEGERS


def _small(value: Any) -> Any:
    return value[:50] if isinstance(value, str | bytes) else value


def _shown(value: Any) -> str:
    return f"{len(value)} characters" if isinstance(value, str) and len(value) > 50 else repr(value)


def _setting(name: str, value: Any) -> Spoil:
    return lambda message: setattr(message, name, value)


def _timing(name: str, seconds: int, nanos: int) -> Spoil:
    def spoil(message: Any) -> None:
        getattr(message, name).seconds, getattr(message, name).nanos = seconds, nanos

    return spoil


def _clearing(name: str) -> Spoil:
    return lambda message: message.ClearField(name)


def _emptying(name: str) -> Spoil:
    def spoil(message: Any) -> None:
        message.ClearField(name)
        getattr(message, name).SetInParent()

    return spoil


def _inside(name: str, spoil: Spoil) -> Spoil:
    def spoil_inside(message: Any) -> None:
        getattr(message, name).SetInParent()
        spoil(getattr(message, name))

    return spoil_inside


def _listing(name: str, values: list[Any]) -> Spoil:
    return lambda message: getattr(message, name).extend(values)


def _adding(name: str, count: int, spoil: Spoil | None = None) -> Spoil:
    def add(message: Any) -> None:
        for _ in range(count):
            added = getattr(message, name).add()
            if spoil is not None:
                spoil(added)

    return add


def _keying(name: str, key: Any, value: FieldDescriptor) -> Spoil:
    def put(message: Any) -> None:
        entries = getattr(message, name)
        if value.message_type is not None:
            entries[key].SetInParent()
        else:
            entries[key] = _wrong(value)[0]

    return put


# --- the request that is spoiled ---


def _plausible(running: Running, request: Any, path: str) -> None:
    """Fills in what most requests need to be served at all: where, of which workflow, by whom."""
    fields = request.DESCRIPTOR.fields_by_name
    for name, value in (
        ("namespace", "other" if path.endswith("Namespace") else "default"),
        ("workflow_id", "order"),
        ("activity_id", "activity"),
        ("schedule_id", "schedule"),
        ("job_id", "job"),
        ("identity", "somebody"),
        ("request_id", "request"),
        ("reason", "why"),
        ("signal_name", "signal"),
        ("task_token", running.task_token),
    ):
        field = fields.get(name)
        if field is not None and field.message_type is None and not field.is_repeated:
            setattr(request, name, value)
    for name in ("execution", "workflow_execution"):
        if name in fields and fields[name].message_type is not None:
            getattr(request, name).workflow_id = "order"
    for name in ("workflow_type", "activity_type", "task_queue"):
        field = fields.get(name)
        if field is not None and field.message_type is not None:
            if "name" in field.message_type.fields_by_name:
                getattr(request, name).name = "q"
        elif field is not None and not field.is_repeated and field.enum_type is None:
            setattr(request, name, "q")


def _begin_anew(running: Running, path: str) -> None:
    """An open run named `order` whose workflow task is started, whatever became of the one before."""
    running.start("order", f"before {path}", replaces=True)
    running.take_task("order")


def _complaint(running: Running, path: str, request: Message, response: type[Message]) -> str | None:
    """What is wrong with how a request is answered."""
    try:
        answer = running.serve(path, request)
    except ServiceError as error:
        code = answer_to(error, path, lambda: "id").code
        if int(code) in (_INTERNAL, _UNKNOWN) or not str(error):
            return f"{type(error).__name__}: {error}"[:300]
        return None
    except TimeoutError:
        return f"no answer in {BOUND_S} s"
    except asyncio.CancelledError:
        raise
    except Exception as error:  # whatever it is, it is what this test looks for
        return f"{type(error).__name__}: {error}"[:300]
    return None if isinstance(answer, response) else f"answered {type(answer).__name__}"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.rpartition("/")[2])
def test_each_wrong_value_of_each_field_is_served_or_refused(path: str, running: Running) -> None:
    """No field, whatever stands in it, makes a handler raise what a caller would see as the server's own failure."""
    method = running.server.service.methods.get(path)
    assert method is not None, "an RPC of the contract that the server does not even refuse"
    if method.serve is None:
        return  # refused with UNIMPLEMENTED before the request is read
    _begin_anew(running, path)
    complaints = []
    for name, spoil in spoiled(method.request.DESCRIPTOR):
        request = method.request()
        _plausible(running, request, path)
        spoil(request)
        complaint = _complaint(running, path, request, method.response)
        if complaint is not None:
            complaints.append(f"{name}: {complaint}")
    assert not complaints, "\n".join(complaints)


def test_the_wrong_values_are_many() -> None:
    """A walk over the messages that finds no fields would pass the test above."""
    from perdure.api.workflowservice.v1 import StartWorkflowExecutionRequest

    names = [name for name, _ in spoiled(StartWorkflowExecutionRequest.DESCRIPTOR)]
    assert len(names) > 200
    assert "workflow_run_timeout=-5s 0ns" in names
    assert "retry_policy.backoff_coefficient=nan" in names
    assert "workflow_id_reuse_policy=9999" in names


def test_the_server_still_works_after_all_that(running: Running) -> None:
    """What was refused left nothing broken behind."""
    running.start("afterwards")
