"""Search attribute values: checked when a client or a workflow sets them, decoded for lists; and task queue names."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache

from perdure.api.common.v1 import Payload, SearchAttributes
from perdure.api.enums.v1 import TaskQueueKind
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.core.errors import InvalidArgumentError
from perdure.core.run.limits import Limits
from perdure.core.run.records import AttributeValue, Text
from perdure.core.visibility.attributes import PREDEFINED_ATTRIBUTES, SYSTEM_ATTRIBUTES, AttributeType

SETTABLE_PREDEFINED = frozenset(
    {
        "TemporalChangeVersion",
        "BinaryChecksums",
        "BuildIds",
        "BatcherNamespace",
        "BatcherUser",
        "TemporalScheduledStartTime",
        "TemporalScheduledById",
        "TemporalSchedulePaused",
        "TemporalNamespaceDivision",
        "TemporalPauseInfo",
        "TemporalReportedProblems",
        "TemporalWorkerDeployment",
        "TemporalWorkerDeploymentVersion",
        "TemporalWorkflowVersioningBehavior",
    }
)
_NORMAL_QUEUE = TaskQueueKind.Value("TASK_QUEUE_KIND_NORMAL")
_RESERVED_QUEUES = "/_sys/"
_PLAIN_TEXT = re.compile(rb'"[ !#-\[\]-~]*"')
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_INT64 = range(-(2**63), 2**63)
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,]([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})"
)


def normalize_task_queue(queue: TaskQueue, default: str, limits: Limits) -> None:
    """Fills in the task queue of a command that starts a run, and checks its name.

    Raises:
        InvalidArgumentError: too long, or reserved for the server.
    """
    queue.name = queue.name or default
    if not queue.kind:
        queue.kind = _NORMAL_QUEUE
    if len(queue.name.encode()) > limits.id_bytes:
        raise InvalidArgumentError("taskQueue length exceeds limit")
    if queue.name.startswith(_RESERVED_QUEUES):
        raise InvalidArgumentError(f"task queue name cannot start with reserved prefix {_RESERVED_QUEUES}")


def shown_task_queue(queue: TaskQueue) -> str:
    """A task queue as messages about commands show it."""
    return f'name:"{queue.name}"  kind:{TaskQueueKind.Name(queue.kind)}'


def is_nil(payload: Payload) -> bool:
    """Whether a payload stands for 'no value': it removes a key."""
    encoding = payload.metadata.get("encoding", b"")
    if encoding == b"binary/null" or not payload.data:
        return True
    return encoding == b"json/plain" and payload.data.strip() in (b"null", b"[]")


def validate(
    fields: SearchAttributes, custom: Mapping[str, AttributeType], namespace: str, limits: Limits
) -> None:
    """Checks names, types and sizes.

    Raises:
        InvalidArgumentError: the message names the attribute.
    """
    count = len(fields.indexed_fields)
    if count > limits.search_attribute_count:
        raise InvalidArgumentError(
            f"number of search attributes {count} exceeds limit {limits.search_attribute_count}"
        )
    for name in sorted(fields.indexed_fields):
        payload = fields.indexed_fields[name]
        attribute_type = _type_of(name, custom, namespace)
        if not is_nil(payload) and decode(payload, attribute_type) is None:
            shown = _shown(payload)
            raise InvalidArgumentError(
                f"invalid value for search attribute {name} of type {attribute_type.label}: {shown}"
            )


def mark_types(fields: SearchAttributes, custom: Mapping[str, AttributeType]) -> None:
    """Gives every value without a type the one of its attribute, as workers expect to find it in the history."""
    for name, payload in fields.indexed_fields.items():
        attribute_type = PREDEFINED_ATTRIBUTES.get(name) or custom.get(name)
        if attribute_type is not None and "type" not in payload.metadata:
            payload.metadata["type"] = attribute_type.label.encode()


def validate_size(fields: SearchAttributes, limits: Limits) -> None:
    """Checks the size of each value and of all together.

    Raises:
        InvalidArgumentError: too large.
    """
    for name, payload in fields.indexed_fields.items():
        if len(payload.data) > limits.search_attribute_value_bytes:
            raise InvalidArgumentError(
                f"search attribute {name} value size {len(payload.data)} exceeds size limit "
                f"{limits.search_attribute_value_bytes}"
            )
    if fields.ByteSize() > limits.search_attributes_bytes:
        raise InvalidArgumentError(
            f"total size of search attributes {fields.ByteSize()} exceeds size limit {limits.search_attributes_bytes}"
        )


def _type_of(name: str, custom: Mapping[str, AttributeType], namespace: str) -> AttributeType:
    if name in SYSTEM_ATTRIBUTES:
        raise InvalidArgumentError(f"{name} attribute can't be set in SearchAttributes")
    if name in PREDEFINED_ATTRIBUTES:
        if name not in SETTABLE_PREDEFINED:
            raise InvalidArgumentError(f"{name} attribute can't be set in SearchAttributes")
        return PREDEFINED_ATTRIBUTES[name]
    if name not in custom:
        raise InvalidArgumentError(
            f"Namespace {namespace} has no mapping defined for search attribute {name}"
        )
    return custom[name]


def _shown(payload: Payload) -> str:
    try:
        value = json.loads(payload.data)
    except (ValueError, RecursionError):
        return f"value from <{payload.metadata.get('encoding', b'').decode(errors='replace')} payload>"
    if isinstance(value, list):
        return f"[{' '.join(map(str, value))}]"
    return str(value)


def decode(payload: Payload, attribute_type: AttributeType) -> AttributeValue | None:
    """A value as filters see it; None if the payload does not hold one of this type. Datetimes become nanoseconds."""
    if is_nil(payload):
        return None
    data = payload.data
    try:
        # Nearly all are short texts without escapes, for which a look is enough.
        value = data[1:-1].decode() if _PLAIN_TEXT.fullmatch(data) else json.loads(data)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and attribute_type is not AttributeType.KEYWORD_LIST:
        if len(value) != 1:
            return None
        value = value[0]
    return _typed(value, attribute_type)


def _typed(value: object, attribute_type: AttributeType) -> AttributeValue | None:
    match attribute_type:
        case AttributeType.KEYWORD:
            return _text(value) if isinstance(value, str) else None
        case AttributeType.TEXT:
            return Text(_text(value)) if isinstance(value, str) else None
        case AttributeType.INT:
            is_int = isinstance(value, int) and not isinstance(value, bool)
            return value if is_int and value in _INT64 else None  # type: ignore[return-value]  # checked
        case AttributeType.DOUBLE:
            return _double(value)
        case AttributeType.BOOL:
            return value if isinstance(value, bool) else None
        case AttributeType.DATETIME:
            return datetime_ns(value) if isinstance(value, str) else None
        case _:  # KEYWORD_LIST
            items = value if isinstance(value, list) else [value]
            texts = [_text(item) for item in items if isinstance(item, str)]
            return texts if texts and len(texts) == len(items) else None


def _text(value: str) -> str:
    """The text without lone surrogates, which JSON can write but no store can keep."""
    return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _double(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


@lru_cache(maxsize=500)  # checked and then decoded, and many schedules are due at one second
def datetime_ns(text: str) -> int | None:
    """An RFC 3339 time in nanoseconds since the epoch, cut to 64 bits as in queries, or None if it is not one."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    whole, digits, zone = match.groups(default="")
    try:
        moment = datetime.datetime.fromisoformat(whole + zone)
    except ValueError:
        return None
    delta = moment - _EPOCH
    time_ns = (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + int(digits[:9].ljust(9, "0"))
    return min(max(time_ns, _INT64.start), _INT64.stop - 1)


def decode_all(fields: SearchAttributes, custom: Mapping[str, AttributeType]) -> dict[str, AttributeValue]:
    """Every attribute that decodes, by name."""
    decoded: dict[str, AttributeValue] = {}
    values = fields.indexed_fields
    for name in values:
        attribute_type = PREDEFINED_ATTRIBUTES.get(name) or custom.get(name)
        value = decode(values[name], attribute_type) if attribute_type is not None else None
        if value is not None:
            decoded[name] = value
    return decoded
