"""What a handler sees of a message, and what a bridge has counted.

May live here: values. May not: brokers, clients, input or output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One message, the same for every broker."""

    id: str
    """What it is recognised by when it comes again; empty if its producer gave none."""
    body: bytes
    """What was sent: of a Redis entry the field `body`."""
    headers: Mapping[str, str]
    """What was sent beside it: other fields, headers, message attributes."""
    source: str
    """Name of the source: by default the stream or queue."""
    sent_at: datetime | None = None
    """When it was sent, by the clock of the broker or producer; None if nobody says."""
    redelivered: bool = False
    """Whether it may have been delivered before."""
    deliveries: int = 1
    """How often it has been delivered, this time included; less if the broker does not count, more if it guesses."""

    def json(self) -> Any:
        """Return the body read as JSON.

        Raises:
            ValueError: It is not JSON. A handler may let it pass: the message is set aside.
        """
        return json.loads(self.body)


@dataclass(slots=True)
class Counters:
    """What a bridge has done since it was made; `waiting` is how it stands now."""

    taken: int = 0
    """Deliveries, repeated ones included."""
    acted: int = 0
    """Workflows started or signalled."""
    repeated: int = 0
    """Messages that had been acted on before, and starts whose workflow there was already."""
    ignored: int = 0
    """Messages whose handler said that there is nothing to do."""
    set_aside: int = 0
    """Poison: now in the dead stream or queue, with the reason."""
    waiting: int = 0
    """Messages held because the server can not take them now; nothing more is taken meanwhile."""
    source_failures: int = 0
    """How often the broker went away or could not be reached."""
