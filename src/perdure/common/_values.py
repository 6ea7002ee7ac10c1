"""Payloads as they are: raw values, and headers."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import perdure.api.common.v1

_PICKLE_VERSION = b"1"


@dataclass(frozen=True)
class RawValue:
    """A payload that no converter touches.

    As a parameter or result of a workflow, activity, signal, query or update it carries the payload itself;
    the payload codec still applies.
    """

    payload: perdure.api.common.v1.Payload

    def __getstate__(self) -> object:
        """Return the payload's bytes after a version, for pickle."""
        return _PICKLE_VERSION + self.payload.SerializeToString()

    def __setstate__(self, state: object) -> None:
        """Take over what `__getstate__` returned.

        Raises:
            TypeError: The state is not bytes.
            ValueError: The state is of another version.
        """
        if not isinstance(state, bytes):
            raise TypeError(f"Expected bytes state, got {type(state)}")
        if state[:1] != _PICKLE_VERSION:
            raise ValueError(f"Cannot unpickle a raw value of version {state[:1]!r}")
        object.__setattr__(self, "payload", perdure.api.common.v1.Payload.FromString(state[1:]))


def _apply_headers(
    source: Mapping[str, perdure.api.common.v1.Payload] | None,
    dest: MutableMapping[str, perdure.api.common.v1.Payload],
) -> None:
    """Copy headers into the header map of a message."""
    if source:
        for key, payload in source.items():
            # A map of messages takes no assignments.
            dest[key].CopyFrom(payload)
