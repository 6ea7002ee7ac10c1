"""Payload codecs: bytes to bytes, after conversion, such as encryption or compression."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence

from perdure.api.common.v1 import Payload, Payloads
from perdure.api.failure.v1 import Failure

_DETAILS_FIELDS = (
    ("application_failure_info", "details"),
    ("timeout_failure_info", "last_heartbeat_details"),
    ("canceled_failure_info", "details"),
    ("reset_workflow_failure_info", "last_heartbeat_details"),
)
"""Where the kinds of failures keep payloads: the kind's field, and the field in it."""


class PayloadCodec(ABC):
    """Encodes and decodes the bytes of payloads, for example to encrypt or compress them."""

    @abstractmethod
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encode payloads.

        Args:
            payloads: What to encode; must not be changed.

        Returns:
            At least one payload and not more than were given.
        """
        raise NotImplementedError

    @abstractmethod
    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decode payloads.

        Args:
            payloads: What to decode; must not be changed.

        Returns:
            What was given to `encode`.
        """
        raise NotImplementedError

    async def encode_wrapper(self, payloads: Payloads) -> None:
        """Encode the payloads inside the message and put the results in their place."""
        _replace_all(payloads, await self.encode(payloads.payloads))

    async def decode_wrapper(self, payloads: Payloads) -> None:
        """Decode the payloads inside the message and put the results in their place."""
        _replace_all(payloads, await self.decode(payloads.payloads))

    async def encode_failure(self, failure: Failure) -> None:
        """Encode all payloads of a failure and of its causes. Not for overriding."""
        await _apply_to_failure_payloads(failure, self.encode_wrapper)

    async def decode_failure(self, failure: Failure) -> None:
        """Decode all payloads of a failure and of its causes. Not for overriding."""
        await _apply_to_failure_payloads(failure, self.decode_wrapper)


def _replace_all(payloads: Payloads, replacements: Sequence[Payload]) -> None:
    # Copied first: a codec may hand back the very messages that are about to be removed.
    replacements = Payloads(payloads=replacements).payloads
    del payloads.payloads[:]
    payloads.payloads.extend(replacements)


def _chain(failure: Failure) -> Iterator[Failure]:
    yield failure
    while failure.HasField("cause"):
        failure = failure.cause
        yield failure


async def _apply_to_failure_payloads(
    failure: Failure, transform: Callable[[Payloads], Awaitable[None]]
) -> None:
    """Let a function change, in place, all payloads of a failure and of its causes."""
    for link in _chain(failure):
        if link.HasField("encoded_attributes"):
            attributes = Payloads(payloads=[link.encoded_attributes])
            await transform(attributes)
            link.encoded_attributes.CopyFrom(attributes.payloads[0])
        kind = link.WhichOneof("failure_info")
        for info_field, details_field in _DETAILS_FIELDS:
            if kind == info_field and getattr(link, info_field).HasField(details_field):
                await transform(getattr(getattr(link, info_field), details_field))
