"""Tokens of completion callbacks: which operation of which run a completion is for, sealed as task tokens are.

A token travels in a header, so it is text: a JSON document with a version, as those of Temporal's server are.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, NamedTuple

from perdure.core.errors import InvalidArgumentError
from perdure.core.run.records import RunKey, RunKind
from perdure.server.engine.tokens import TokenSealer

INVALID: Final = "invalid callback token"
_KIND: Final = "nexus completion"
_VERSION: Final = 1


class Waiting(NamedTuple):
    """The operation that waits for a completion. A standalone one is a run itself, and has no scheduled event."""

    run: RunKey
    scheduled_event_id: int
    request_id: str


def seal(tokens: TokenSealer, waiting: Waiting) -> str:
    """The token of an operation."""
    run = waiting.run
    fields = (run.namespace_id, run.workflow_id, run.run_id)
    kind = () if run.kind is RunKind.WORKFLOW else (int(run.kind),)
    sealed = tokens.seal(_KIND, *fields, waiting.scheduled_event_id, waiting.request_id, *kind)
    return json.dumps({"v": _VERSION, "d": urlsafe_b64encode(sealed).decode()})


def unseal(tokens: TokenSealer, token: str) -> Waiting:
    """The operation that a token names.

    Raises:
        InvalidArgumentError: it is none of ours.
    """
    try:
        document = json.loads(token)
        if not isinstance(document, dict) or document.get("v") != _VERSION:
            raise InvalidArgumentError(INVALID)
        sealed = urlsafe_b64decode(str(document.get("d", "")))
    except (ValueError, RecursionError) as error:  # RecursionError: nested as deeply as the header is long
        raise InvalidArgumentError(INVALID) from error
    fields = tokens.open(_KIND, sealed, INVALID)
    kind = RunKind(fields[5]) if len(fields) > 5 else RunKind.WORKFLOW
    return Waiting(RunKey(*fields[:3])._replace(kind=kind), int(fields[3]), str(fields[4]))
