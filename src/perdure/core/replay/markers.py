"""Markers of patches and local activities, byte for byte as the official workers write and read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from perdure.api.common.v1 import Payload, Payloads
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import MarkerRecordedEventAttributes
from perdure.core.replay.errors import HistoryError

PATCH_MARKER: Final = "core_patch"
LOCAL_ACTIVITY_MARKER: Final = "core_local_activity"
CHANGE_VERSION: Final = "TemporalChangeVersion"
_PATCH_KEY: Final = "patch-data"
_SECOND_NS: Final = 1_000_000_000


@dataclass(slots=True)
class LocalActivityMarker:
    """What a marker says about a local activity.

    Attributes:
        attempt: number of the last attempt.
        complete_time_ns: workflow time after it; None when cancelled without waiting.
        backoff_ns: set when it goes on after a timer.
        original_schedule_time_ns: of its first schedule; None when unknown.
        result, failure: the outcome; a failure is not wrapped.
        activation_index: number of the activation that told the code, counted from 0 in its workflow task; None when
            written by a worker that did not number them.
    """

    seq: int
    attempt: int
    activity_id: str
    activity_type: str
    complete_time_ns: int | None
    backoff_ns: int | None
    original_schedule_time_ns: int | None
    result: Payloads | None = None
    failure: Failure | None = None
    activation_index: int | None = None


def json_payload(value: object) -> Payload:
    """A value as a JSON payload, without spaces."""
    data = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Payload(metadata={"encoding": b"json/plain"}, data=data)


def patch_details(patch_id: str, is_deprecated: bool) -> dict[str, Payloads]:
    """The details of a patch marker."""
    return {_PATCH_KEY: Payloads(payloads=[json_payload({"id": patch_id, "deprecated": is_deprecated})])}


def read_patch(attributes: MarkerRecordedEventAttributes) -> tuple[str, bool]:
    """Patch id and whether it is deprecated, of a patch marker (also in the format of early workers)."""
    details = attributes.details
    try:
        if _PATCH_KEY in details:
            data = json.loads(details[_PATCH_KEY].payloads[0].data)
            return str(data["id"]), bool(data.get("deprecated", False))
        name = details["patch_id"].payloads[0].data.decode()
        return name, details["deprecated"].payloads[0].data[0] != 0
    except (ValueError, LookupError, TypeError) as error:
        raise HistoryError(
            "A patch marker in history cannot be read: was it written by another worker?"
        ) from error


def _split(time_ns: int | None) -> dict[str, int] | None:
    return None if time_ns is None else {"seconds": time_ns // _SECOND_NS, "nanos": time_ns % _SECOND_NS}


def _join(time: Any) -> int | None:
    return None if time is None else int(time["seconds"]) * _SECOND_NS + int(time["nanos"])


def local_activity_details(marker: LocalActivityMarker) -> dict[str, Payloads]:
    """The details of a local activity's marker (its failure goes into the marker itself)."""
    data: dict[str, object] = {
        "seq": marker.seq,
        "attempt": marker.attempt,
        "activity_id": marker.activity_id,
        "activity_type": marker.activity_type,
        "complete_time": _split(marker.complete_time_ns),
        "backoff": _split(marker.backoff_ns),
        "original_schedule_time": _split(marker.original_schedule_time_ns),
    }
    if marker.activation_index is not None:
        data["activation_index"] = marker.activation_index
    details = {"data": Payloads(payloads=[json_payload(data)])}
    if marker.result is not None and marker.result.payloads:
        details["result"] = marker.result
    return details


def read_local_activity(attributes: MarkerRecordedEventAttributes) -> LocalActivityMarker:
    """What a local activity's marker says."""
    details = attributes.details
    try:
        data = json.loads(details["data"].payloads[0].data)
        marker = LocalActivityMarker(
            int(data["seq"]),
            int(data["attempt"]),
            str(data["activity_id"]),
            str(data["activity_type"]),
            _join(data.get("complete_time")),
            _join(data.get("backoff")),
            _join(data.get("original_schedule_time")),
        )
        index = data.get("activation_index")
        marker.activation_index = None if index is None else int(index)
    except (ValueError, LookupError, TypeError) as error:
        raise HistoryError(
            "A local activity's marker cannot be read: was it written by another worker?"
        ) from error
    if attributes.HasField("failure"):
        marker.failure = attributes.failure
    elif "result" in details:
        marker.result = details["result"]
    return marker
