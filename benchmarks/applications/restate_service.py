"""The application on Restate's Python SDK: the service that its server calls. Served by granian."""

from __future__ import annotations

import restate  # type: ignore[import-not-found]  # only where peers are installed

orders = restate.Service("Orders")


async def charge(order: str) -> str:
    """One step: nothing to do."""
    return f"charged {order}"


@orders.handler()  # type: ignore[untyped-decorator]  # untyped where it is not installed
async def place(context: restate.Context, request: dict[str, int]) -> str:
    """So many durable steps, one after the other."""
    result = ""
    for _ in range(request["steps"]):
        result = await context.run_typed("charge", charge, order="A-1")
    return result


app = restate.app(services=[orders])
