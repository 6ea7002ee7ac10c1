"""What the bridge asks of a broker.

May live here: the seam. May not: brokers, workflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from perdure.contrib.bridge._messages import Message


class SourceDownError(Exception):
    """The broker does not answer, or lost the connection: open the source again.

    What had been delivered and not acknowledged is delivered again after that.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A message and what its source needs to answer for it."""

    message: Message
    receipt: Any


class Source(Protocol):
    """A queue of a broker.

    Every method may raise `SourceDownError`; any other error is a mistake of the set-up and ends the bridge. Between
    `open` and `close` the methods are called side by side.
    """

    @property
    def name(self) -> str:
        """Part of the ids of all that is done for its messages: must stay what it is from start to start."""
        ...

    @property
    def keep_every_s(self) -> float | None:
        """How often `keep` has to be called, seconds; None for never."""
        ...

    async def open(self, limit: int) -> None:
        """Connect. At most `limit` messages are to be delivered and not answered for at a time."""
        ...

    async def take(self, limit: int) -> Sequence[Delivery]:
        """Wait for messages and return at most `limit`; none if there were none for a while."""
        ...

    async def acknowledge(self, delivery: Delivery) -> None:
        """It is done with: it must not come again."""
        ...

    async def set_aside(self, delivery: Delivery, reason: str) -> None:
        """Put it, with the reason, where people find it, and acknowledge it; in this order at least."""
        ...

    async def give_back(self, delivery: Delivery) -> None:
        """It was not acted on: others may have it at once."""
        ...

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        """They are still in the works: others may not have them yet."""
        ...

    async def close(self) -> None:
        """Disconnect; also after an error, and when not open."""
        ...
