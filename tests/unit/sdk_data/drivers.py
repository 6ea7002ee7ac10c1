"""A codec and a storage driver for tests, and how to run a coroutine with a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from perdure.api.common.v1 import Payload, Payloads
from perdure.converter import (
    PayloadCodec,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)

_T = TypeVar("_T")


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end, for ten seconds at most."""

    async def bounded() -> _T:
        async with asyncio.timeout(10):
            return await coroutine

    return asyncio.run(bounded())


class WrappingCodec(PayloadCodec):
    """Puts all payloads into one."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return one payload that holds the given ones."""
        data = Payloads(payloads=payloads).SerializeToString()
        return [Payload(metadata={"encoding": b"wrapped"}, data=data)]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads inside; refuse what is not wrapped."""
        [payload] = payloads
        if payload.metadata.get("encoding") != b"wrapped":
            raise ValueError("not wrapped")
        return list(Payloads.FromString(payload.data).payloads)


class ReversingCodec(PayloadCodec):
    """Reverses the bytes of each payload, and puts the payload itself out of sight."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return a payload for each."""
        return [
            Payload(metadata={"encoding": b"reversed"}, data=payload.SerializeToString()[::-1])
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads inside; leave what is not reversed as it is."""
        return [
            Payload.FromString(payload.data[::-1])
            if payload.metadata.get("encoding") == b"reversed"
            else payload
            for payload in payloads
        ]


class MemoryDriver(StorageDriver):
    """Keeps payloads in a dictionary, and remembers what it was told."""

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self.stored: dict[str, bytes] = {}
        self.contexts: list[StorageDriverStoreContext] = []
        self.calls: list[int] = []

    def name(self) -> str:
        """Return the name given."""
        return self._name

    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        """Keep the payloads."""
        self.contexts.append(context)
        self.calls.append(len(payloads))
        claims = []
        for payload in payloads:
            key = f"{self._name}-{len(self.stored)}"
            self.stored[key] = payload.SerializeToString()
            claims.append(StorageDriverClaim({"key": key}))
        return claims

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Return the payloads kept."""
        return [Payload.FromString(self.stored[claim.claim_data["key"]]) for claim in claims]
