"""Operation tokens: what names an operation, to cancel it later, to the worker that serves it.

May live here: tokens, both ways, in the form that all SDKs share. May not: what is done with them.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

if TYPE_CHECKING:
    from perdure import client as clients

OutputT = TypeVar("OutputT")

_URL_SAFE: Final = re.compile(r"[A-Za-z0-9_-]*")


class OperationTokenType(IntEnum):
    """What a token names."""

    WORKFLOW = 1
    ACTIVITY = 2
    UPDATE_WORKFLOW = 3


_NAMED_BY: Final = {
    OperationTokenType.WORKFLOW: ("workflow_id",),
    OperationTokenType.ACTIVITY: ("activity_id",),
    OperationTokenType.UPDATE_WORKFLOW: ("workflow_id", "update_id"),
}
"""What a token of each type must name."""


@dataclass(frozen=True, kw_only=True)
class OperationToken:
    """What is inside a token.

    Args:
        version: Of the form; None and 0 are this one.
        type: What is named.
        namespace: Of the workflow or activity.
        workflow_id: Of the workflow; None in the token of an activity.
        activity_id: Of the activity; None in other tokens.
        run_id: Of the run that has accepted an update, or of the activity.
        update_id: Of the update.
    """

    version: int | None = None
    type: OperationTokenType
    namespace: str
    workflow_id: str | None = None
    activity_id: str | None = None
    run_id: str | None = None
    update_id: str | None = None

    def encode(self) -> str:
        """Return the token: JSON in base64 for URLs, without padding."""
        fields: dict[str, Any] = {"t": int(self.type), "ns": self.namespace}
        for key, value in (
            ("wid", self.workflow_id),
            ("aid", self.activity_id),
            ("v", self.version),
            ("rid", self.run_id),
            ("uid", self.update_id),
        ):
            if value is not None:
                fields[key] = value
        text = json.dumps(fields, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str) -> Self:
        """Read a token.

        Raises:
            TypeError: It is none, or names something unknown.
        """
        fields = _fields(token)
        kind = _checked(fields, "t", "token type", int)
        if kind not in OperationTokenType._value2member_map_:
            known = ", ".join(f"{one.value} ({one.name})" for one in OperationTokenType)
            raise TypeError(f"invalid token: unknown token type, got {kind}. Valid values: {known}")
        token_type = OperationTokenType(kind)
        read = cls(
            type=token_type,
            version=_checked(fields, "v", "version", int, is_optional=True),
            namespace=_checked(fields, "ns", "namespace", str),
            workflow_id=_checked(fields, "wid", "workflow id", str, is_optional=True),
            activity_id=_checked(fields, "aid", "activity id", str, is_optional=True),
            run_id=_checked(fields, "rid", "run_id", str, is_optional=True),
            update_id=_checked(fields, "uid", "update_id", str, is_optional=True),
        )
        for name in _NAMED_BY[token_type]:
            if not getattr(read, name):
                raise TypeError(
                    f"invalid token: expected non-empty {name.replace('_', ' ')} for token type `{token_type.name}`"
                )
        return read


def _fields(token: str) -> dict[str, Any]:
    if not token:
        raise TypeError("invalid token: token is empty")
    if not _URL_SAFE.fullmatch(token):
        raise TypeError("failed to decode token as base64url")
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError as error:
        raise TypeError("failed to decode token as base64url") from error
    try:
        fields = json.loads(data.decode())
    except ValueError as error:
        raise TypeError("failed to unmarshal operation token") from error
    if not isinstance(fields, dict):
        raise TypeError(f"invalid token: expected dict, got {type(fields)}")
    return fields


def _checked(
    fields: dict[str, Any], key: str, name: str, expected: type, *, is_optional: bool = False
) -> Any:
    value = fields.get(key)
    if (value is None and is_optional) or (isinstance(value, expected) and not isinstance(value, bool)):
        return value
    name_of = {int: ("an int", " or null"), str: ("a string", " or None")}[expected]
    kinds = name_of[0] + (name_of[1] if is_optional else "")
    raise TypeError(f"invalid token: expected {name} to be {kinds}, got {type(value)}")


@dataclass(frozen=True)
class WorkflowHandle(Generic[OutputT]):
    """A workflow that answers an operation; `WorkflowRunOperationContext.start_workflow` returns it.

    Args:
        namespace: Of the workflow.
        workflow_id: Of the workflow.
        version: Of the token it was read from.
    """

    namespace: str
    workflow_id: str
    version: int | None = None

    def _to_client_workflow_handle(
        self, client: clients.Client, result_type: type[OutputT] | None = None
    ) -> clients.WorkflowHandle[Any, OutputT]:
        if client.namespace != self.namespace:
            raise ValueError(
                f"Client namespace {client.namespace} does not match operation token namespace {self.namespace}"
            )
        return client.get_workflow_handle(self.workflow_id, result_type=result_type)

    @classmethod
    def _unsafe_from_client_workflow_handle(
        cls, workflow_handle: clients.WorkflowHandle[Any, OutputT]
    ) -> WorkflowHandle[OutputT]:
        return cls(workflow_handle._client.namespace, workflow_handle.id)

    def to_token(self) -> str:
        """Return the operation's token."""
        return OperationToken(
            type=OperationTokenType.WORKFLOW, namespace=self.namespace, workflow_id=self.workflow_id
        ).encode()

    @classmethod
    def from_token(cls, token: str) -> WorkflowHandle[OutputT]:
        """Read a token.

        Raises:
            TypeError: It is none, or names no workflow, or is of a form that is not known here.
        """
        read = OperationToken.decode(token)
        if read.type is not OperationTokenType.WORKFLOW:
            raise TypeError(
                f"invalid workflow token type: {read.type}, expected: {OperationTokenType.WORKFLOW}"
            )
        if read.version not in (None, 0):
            raise TypeError("invalid workflow token: 'v' field, if present, must be 0 or null/absent")
        return cls(read.namespace, read.workflow_id or "", read.version)
