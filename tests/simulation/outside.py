"""Addresses outside of the cluster that are called back by HTTP: messages get lost there as everywhere."""

from __future__ import annotations

import zlib
from random import Random

from perdure.core.nexus import http as protocol
from perdure.server.callback_addresses import AddressRule
from perdure.server.http_calls import Answer, Headers
from tests.simulation.context import Context
from tests.simulation.model import Broken

HOST = "outside"
RULE = AddressRule(HOST, is_insecure_allowed=True)


def address(update_id: str, request_id: str) -> str:
    """The address of one callback."""
    return f"http://{HOST}/{update_id}/{request_id}"


class Outside:
    """What one server process reaches: stands for its `HttpCalls`.

    Args:
        context: the world.
        random: decides what becomes of messages.
    """

    def __init__(self, context: Context, random: Random) -> None:
        self._context = context
        self._random = random

    def close(self) -> None:
        """There is no connection."""

    async def post(self, url: str, headers: Headers, body: bytes) -> Answer:
        """See `HttpCalls.post`."""
        context, random, faults = self._context, self._random, self._context.faults
        await context.loop.sleep(random.uniform(0.0001, 0.05))
        if random.random() < faults.request_loss:
            raise ConnectionRefusedError("nobody listens")
        try:
            context.oracle.callbacks.arrives(url, dict(headers)[protocol.STATE], body)
        except Broken as error:
            context.fail(error)
            await context.loop.hang()
        if random.random() < faults.activity_loss:
            return Answer(503, {}, b"")
        taken = zlib.crc32(url.encode()) % 8 != 0
        context.oracle.callbacks.answered(url, taken=taken)
        await context.loop.sleep(random.uniform(0.0001, 0.05))
        if random.random() < faults.response_loss:
            raise ConnectionResetError("the connection broke")
        return Answer(200 if taken else 400, {}, b"")
