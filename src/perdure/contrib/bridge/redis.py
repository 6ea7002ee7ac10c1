"""Redis streams: a consumer group, its pending entries, and a stream of entries that were set aside.

May live here: what a bridge needs of Redis. May not: workflows. Needs the extra `perdure[redis]`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

try:
    import redis.asyncio
    import redis.backoff
    import redis.exceptions
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "perdure.contrib.bridge.redis needs redis-py: pip install 'perdure[redis]'", name=error.name
    ) from error

from perdure.contrib.bridge._messages import Message
from perdure.contrib.bridge._source import Delivery, SourceDownError

logger = logging.getLogger("perdure.bridge")

BLOCK_MS: Final = 1000
"""How long one call waits for new entries."""

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 10.0

_DOWN: Final = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    OSError,
)
_RIGHTS: Final = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)
_DOWN_ANSWERS: Final = ("NOGROUP", "LOADING", "MASTERDOWN", "UNBLOCKED")
"""How answers begin that mean that Redis has just come back, perhaps without the group: open anew."""

_SET_ASIDE: Final = """
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 1 then
    return redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
end
return false
"""
"""Whoever acknowledges it writes the copy: two bridges that hold the same entry make one."""

_LEAVE: Final = """
local found = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if #found == 0 then
    return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
return 0
"""
"""Deleting a consumer forgets what is pending for it, so only one that has nothing is deleted."""


class RedisStream:
    """A stream read by a consumer group, for `Bridge`.

    The message's id is the entry's id, its body the entry's field `body`, its headers all other fields. Entries that
    were acted on stay in the stream until somebody trims it; trimming away entries that were not loses them.

    Args:
        server: Its URL (`redis://host:6379/0`, `rediss://` with TLS), or a client of one's own, which stays open; it
            should not repeat calls by itself.
        stream: Its key; it is made if it does not exist.
        group: The consumer group; made if it does not exist, from the stream's first entry on.
        dead_stream: Where poison goes; by default `<stream>:dead`. In a cluster both keys need one hash tag.
        claim_after_s: After how long entries of a consumer that died are taken over by another, seconds.
        name: Part of the ids of workflows and requests; by default the stream's.
    """

    def __init__(
        self,
        server: str | redis.asyncio.Redis,
        stream: str,
        *,
        group: str = "perdure",
        dead_stream: str | None = None,
        claim_after_s: float = 30.0,
        name: str | None = None,
    ) -> None:
        self.name = name or stream
        self.keep_every_s = claim_after_s / 3
        self.dead_stream = dead_stream or f"{stream}:dead"
        self._given = server
        self._stream = stream
        self._group = group
        self._claim_after_s = claim_after_s
        self._consumer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._client: Any = None
        self._has_own = True
        self._next_claim_s = 0.0
        self._claim_from = "0-0"

    async def open(self, limit: int) -> None:
        """Connect, and make the group if it is not there."""
        if isinstance(self._given, str):
            self._client = redis.asyncio.Redis.from_url(
                self._given,
                protocol=2,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_timeout=ANSWER_TIMEOUT_S,
                retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0),
            )
        else:
            self._client = self._given
        async with _translated():
            try:
                await self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
            except redis.exceptions.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
        # Whatever this consumer took before the connection was lost is nobody's now.
        self._has_own = True
        self._next_claim_s = 0.0

    async def take(self, limit: int) -> Sequence[Delivery]:
        """First what is this consumer's from before, then what others left behind, then new entries."""
        async with _translated():
            if self._has_own:
                found = await self._read("0", limit, None)
                # Those being worked on are in the list too, but none is before the first answer after `open`.
                self._has_own = False
                if found:
                    return await self._deliveries(found, redelivered=True)
            until_claim_s = self._next_claim_s - time.monotonic()
            if until_claim_s <= 0:
                return await self._take_over()
            block_ms = max(1, min(BLOCK_MS, round(until_claim_s * 1000)))
            return await self._deliveries(await self._read(">", limit, block_ms), redelivered=False)

    async def acknowledge(self, delivery: Delivery) -> None:
        """The entry is no longer pending; it stays in the stream."""
        async with _translated():
            await self._client.xack(self._stream, self._group, delivery.receipt[0])

    async def set_aside(self, delivery: Delivery, reason: str) -> None:
        """Copy the entry to the dead stream and acknowledge it, in one step."""
        entry_id, fields = delivery.receipt
        copied = {
            **fields,
            b"perdure-reason": reason.encode(),
            b"perdure-message-id": delivery.message.id.encode(),
            b"perdure-entry": entry_id,
        }
        flat = [part for pair in copied.items() for part in pair]
        async with _translated():
            await self._client.eval(
                _SET_ASIDE, 2, self._stream, self.dead_stream, self._group, entry_id, *flat
            )

    async def give_back(self, delivery: Delivery) -> None:
        """Make the entry look old enough to be taken over by whoever asks next."""
        idle_ms = round(self._claim_after_s * 1000) + 1
        # This delivery does not count: nothing went wrong with the entry.
        await self._claim([delivery], idle_ms, retrycount=delivery.message.deliveries - 1)

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Make the entries look new."""
        await self._claim(deliveries, 0)

    async def close(self) -> None:
        """Leave the group unless something is pending, and disconnect."""
        client, self._client = self._client, None
        if client is None:
            return
        with contextlib.suppress(SourceDownError):
            async with _translated(), asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.eval(_LEAVE, 1, self._stream, self._group, self._consumer)
        if client is not self._given:
            with contextlib.suppress(*_DOWN):
                await client.aclose()

    async def _claim(self, deliveries: Sequence[Delivery], idle_ms: int, **more: int) -> None:
        async with _translated():
            await self._client.xclaim(
                self._stream,
                self._group,
                self._consumer,
                0,
                [delivery.receipt[0] for delivery in deliveries],
                idle=idle_ms,
                justid=True,
                **more,
            )

    async def _read(self, after: str, limit: int, block_ms: int | None) -> list[Any]:
        answer = await self._client.xreadgroup(
            self._group, self._consumer, {self._stream: after}, count=limit, block=block_ms
        )
        if not answer:
            return []
        # A dictionary in the newer version of the protocol, where a client of the caller's may speak it.
        streams = list(answer.values()) if isinstance(answer, Mapping) else [entries for _, entries in answer]
        entries = streams[0]
        return (
            entries[0]
            if isinstance(answer, Mapping) and entries and isinstance(entries[0], list)
            else entries
        )

    async def _take_over(self) -> Sequence[Delivery]:
        """One entry at a time: what is claimed beside an entry that ends the process is counted as delivered, too."""
        answer = await self._client.xautoclaim(
            self._stream,
            self._group,
            self._consumer,
            round(self._claim_after_s * 1000),
            start_id=self._claim_from,
            count=1,
        )
        self._claim_from = _text(answer[0])
        if self._claim_from == "0-0":
            self._next_claim_s = time.monotonic() + self.keep_every_s
        if len(answer) > 2 and answer[2]:
            self._log_trimmed(len(answer[2]))
        return await self._deliveries(answer[1], redelivered=True)

    async def _deliveries(self, entries: Sequence[Any], *, redelivered: bool) -> list[Delivery]:
        deliveries = []
        counts = await self._counts(entries) if redelivered and entries else {}
        for entry_id, fields in entries:
            if fields:
                deliveries.append(
                    self._delivery(entry_id, fields, counts.get(_text(entry_id), 1), redelivered)
                )
            else:
                self._log_trimmed(1)
                await self._client.xack(self._stream, self._group, entry_id)
        return deliveries

    async def _counts(self, entries: Sequence[Any]) -> dict[str, int]:
        """How often entries of this consumer were delivered, by their ids."""
        pending = await self._client.xpending_range(
            self._stream, self._group, entries[0][0], entries[-1][0], len(entries), self._consumer
        )
        return {_text(each["message_id"]): int(each["times_delivered"]) for each in pending}

    def _delivery(
        self, entry_id: Any, fields: Mapping[Any, Any], deliveries: int, redelivered: bool
    ) -> Delivery:
        raw = {_bytes(key): _bytes(value) for key, value in fields.items()}
        entry = _text(entry_id)
        message = Message(
            id=entry,
            body=raw.get(b"body", b""),
            headers={_text(key): _text(value) for key, value in raw.items() if key != b"body"},
            source=self.name,
            sent_at=datetime.fromtimestamp(int(entry.split("-")[0]) / 1000, UTC),
            redelivered=redelivered,
            deliveries=deliveries,
        )
        return Delivery(message, (_bytes(entry_id), raw))

    def _log_trimmed(self, count: int) -> None:
        logger.error(
            "%s: entries were trimmed from the stream before they were acted on: %d", self.name, count
        )


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@contextlib.asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except _RIGHTS:
        raise
    except _DOWN as error:
        raise SourceDownError(f"{type(error).__name__}: {error}") from error
    except redis.exceptions.ResponseError as error:
        if str(error).startswith(_DOWN_ANSWERS):
            raise SourceDownError(str(error)) from error
        raise
