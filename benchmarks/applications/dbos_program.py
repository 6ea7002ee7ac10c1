"""The application on DBOS with a SQLite file: a library, so everything is in this one process."""

from __future__ import annotations

import asyncio
import logging

from dbos import DBOS, SetWorkflowID  # type: ignore[import-not-found]  # only where peers are installed

from benchmarks.applications.loop import arguments, drive


@DBOS.step()  # type: ignore[untyped-decorator]  # untyped where it is not installed
async def charge(order: str) -> str:
    """One step: nothing to do."""
    return f"charged {order}"


@DBOS.workflow()  # type: ignore[untyped-decorator]  # untyped where it is not installed
async def place_order(order: str, steps: int) -> str:
    """So many steps, one after the other."""
    result = ""
    for _ in range(steps):
        result = await charge(order)
    return result


async def run_one(workflow_id: str, steps: int) -> str:
    """Runs one workflow to its end."""
    with SetWorkflowID(workflow_id):
        handle = await DBOS.start_workflow_async(place_order, "A-1", steps)
    result: str = await handle.get_result()
    return result


async def main() -> None:
    """Runs the load."""
    options = arguments(__doc__)
    logging.getLogger("dbos").setLevel(logging.ERROR)
    DBOS(
        config={
            "name": "orders",
            "system_database_url": options.address,
            "log_level": "ERROR",
            "run_admin_server": False,
        }
    )
    DBOS.launch()
    try:
        await drive(run_one, options)
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main())
