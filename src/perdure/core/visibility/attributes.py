"""What a list filter can name: the types of search attributes and the tables of the built-in ones.

Lives here: names, types, and how a name in a query finds its attribute. May not: values, parsing, storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final


class AttributeType(IntEnum):
    """The type of a search attribute; the numbers are those of `temporal.api.enums.v1.IndexedValueType`.

    A record holds, per type: TEXT and KEYWORD `str`, INT `int` (64 bit), DOUBLE `float`, BOOL `bool`,
    DATETIME `int` nanoseconds since 1970 UTC, KEYWORD_LIST a non-empty sequence of `str`. The one exception
    is ExecutionStatus, a KEYWORD to clients and an `int` (`WorkflowExecutionStatus`) in records.
    """

    TEXT = 1
    KEYWORD = 2
    INT = 3
    DOUBLE = 4
    BOOL = 5
    DATETIME = 6
    KEYWORD_LIST = 7

    @property
    def label(self) -> str:
        """The name users know the type by, such as `KeywordList`."""
        return _LABELS[self]


_LABELS: Final[Mapping[AttributeType, str]] = {
    AttributeType.TEXT: "Text",
    AttributeType.KEYWORD: "Keyword",
    AttributeType.INT: "Int",
    AttributeType.DOUBLE: "Double",
    AttributeType.BOOL: "Bool",
    AttributeType.DATETIME: "Datetime",
    AttributeType.KEYWORD_LIST: "KeywordList",
}

EXECUTION_STATUS: Final = "ExecutionStatus"
EXECUTION_DURATION: Final = "ExecutionDuration"
NAMESPACE_DIVISION: Final = "TemporalNamespaceDivision"
RESERVED_PREFIX: Final = "Temporal"

SYSTEM_ATTRIBUTES: Final[Mapping[str, AttributeType]] = MappingProxyType(
    {
        "WorkflowId": AttributeType.KEYWORD,
        "RunId": AttributeType.KEYWORD,
        "WorkflowType": AttributeType.KEYWORD,
        "StartTime": AttributeType.DATETIME,
        "ExecutionTime": AttributeType.DATETIME,
        "CloseTime": AttributeType.DATETIME,
        EXECUTION_STATUS: AttributeType.KEYWORD,
        "TaskQueue": AttributeType.KEYWORD,
        "HistoryLength": AttributeType.INT,
        "HistorySizeBytes": AttributeType.INT,
        EXECUTION_DURATION: AttributeType.INT,
        "StateTransitionCount": AttributeType.INT,
        "ParentWorkflowId": AttributeType.KEYWORD,
        "ParentRunId": AttributeType.KEYWORD,
        "RootWorkflowId": AttributeType.KEYWORD,
        "RootRunId": AttributeType.KEYWORD,
    }
)
"""Attributes every run has by itself; clients cannot set them."""

CLOSED_ONLY_ATTRIBUTES: Final[frozenset[str]] = frozenset({"CloseTime", EXECUTION_DURATION})
"""System attributes that are missing (NULL) while a run is open."""

SORTABLE_SYSTEM_ATTRIBUTES: Final[frozenset[str]] = frozenset({"StartTime", "CloseTime"})
"""System attributes that lists can be ordered by."""

PREDEFINED_ATTRIBUTES: Final[Mapping[str, AttributeType]] = MappingProxyType(
    {
        "TemporalChangeVersion": AttributeType.KEYWORD_LIST,
        "BinaryChecksums": AttributeType.KEYWORD_LIST,
        "BuildIds": AttributeType.KEYWORD_LIST,
        "BatcherNamespace": AttributeType.KEYWORD,
        "BatcherUser": AttributeType.KEYWORD,
        "TemporalScheduledStartTime": AttributeType.DATETIME,
        "TemporalScheduledById": AttributeType.KEYWORD,
        "TemporalSchedulePaused": AttributeType.BOOL,
        NAMESPACE_DIVISION: AttributeType.KEYWORD,
        "TemporalPauseInfo": AttributeType.KEYWORD_LIST,
        "TemporalReportedProblems": AttributeType.KEYWORD_LIST,
        "TemporalWorkerDeployment": AttributeType.KEYWORD,
        "TemporalWorkerDeploymentVersion": AttributeType.KEYWORD,
        "TemporalWorkflowVersioningBehavior": AttributeType.KEYWORD,
        "TemporalUsedWorkerDeploymentVersions": AttributeType.KEYWORD_LIST,
        "TemporalExternalPayloadCount": AttributeType.INT,
        "TemporalExternalPayloadSizeBytes": AttributeType.INT,
    }
)
"""Attributes the server, SDKs and built-in workflows set; kept beside a namespace's own ones."""

RESERVED_NAMES: Final[frozenset[str]] = frozenset(
    {"NamespaceId", "Memo", "MemoEncoding", "VisibilityTaskKey"}
)
"""Names that are neither attributes nor free for a namespace to define."""

GROUP_BY_ATTRIBUTES: Final[frozenset[str]] = frozenset({EXECUTION_STATUS, NAMESPACE_DIVISION})
GROUP_BY_PREFIX: Final = "TemporalLowCardinalityKeyword"

_BUILT_IN: Final[Mapping[str, AttributeType]] = {**SYSTEM_ATTRIBUTES, **PREDEFINED_ATTRIBUTES}
ACTIVITY_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {"ActivityId": "WorkflowId", "ActivityType": "WorkflowType"}
)
"""What lists of standalone activities call the attributes of their runs."""
_ALIASES: Final[Mapping[str, str]] = {"ScheduleId": "WorkflowId", "TemporalScheduleId": "WorkflowId"}


_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute a query refers to: its name in records (aliases resolved) and its type."""

    name: str
    type: AttributeType


def is_definable(name: str) -> bool:
    """Tell whether a namespace may define a search attribute of this name."""
    return name not in _BUILT_IN and name not in RESERVED_NAMES and not name.startswith(RESERVED_PREFIX)


def is_groupable(name: str) -> bool:
    """Tell whether counts can be grouped by the attribute of this name."""
    return name in GROUP_BY_ATTRIBUTES or name.startswith(GROUP_BY_PREFIX)


def resolve(
    name: str, custom: Mapping[str, AttributeType], aliases: Mapping[str, str] = _NONE
) -> Attribute | None:
    """Find the attribute that a name in a query means.

    Built-in names cannot be redefined. A namespace's own attribute wins over an alias. Otherwise the prefix
    `Temporal` may be left out of, or put before, a built-in name.

    Args:
        name: as written in the query; case matters.
        custom: the namespace's own attributes.
        aliases: what lists of another kind of run call built-in attributes; they win over the namespace's own.

    Returns:
        The attribute, or None if there is no such one.
    """
    name = aliases.get(name, name)
    for table in (_BUILT_IN, custom):
        if name in table:
            return Attribute(name, table[name])
    for candidate in (_ALIASES.get(name), RESERVED_PREFIX + name, name.removeprefix(RESERVED_PREFIX)):
        if candidate is not None and candidate in _BUILT_IN:
            return Attribute(candidate, _BUILT_IN[candidate])
    return None
