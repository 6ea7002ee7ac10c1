"""What a handler may know about the call it serves. Doors make these; nothing here knows gRPC or HTTP."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Call(msgspec.Struct, frozen=True):
    """One call.

    Attributes:
        deadline_s: seconds left until the caller stops waiting; None when it set no deadline.
        metadata: the call's headers, lower-case names (such as client-name, client-version).
        is_local: the caller is in this process and dies with it.
    """

    deadline_s: float | None = None
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
    is_local: bool = False
