"""`python -m examples.saga [ADDRESS]`: books a trip, then one more for each step at which it can fail."""

from __future__ import annotations

import asyncio
import sys

from examples.saga.trip import PARTS, TASK_QUEUE, Agency, BookTrip, Companies, Trip, working
from perdure.client import Client, WorkflowFailureError


async def book(client: Client, trip: Trip, companies: Companies) -> None:
    """Books one trip and prints what became of it."""
    async with working(client, Agency(companies)):
        try:
            bookings = await client.execute_workflow(
                BookTrip.run, trip, id=trip.trip_id, task_queue=TASK_QUEUE
            )
            outcome = ", ".join(booking.reference for booking in bookings)
        except WorkflowFailureError as error:
            outcome = str(error.cause.__cause__ or error.cause)
    print(f"{trip.trip_id}: {outcome}")
    print(f"    {', '.join(companies.log) or 'nothing was booked'}")


async def main(address: str) -> None:
    """Runs the trips, one after the other."""
    client = await Client.connect(address)
    await book(client, Trip("trip-that-works", "Lisbon"), Companies())
    for part in PARTS:
        await book(client, Trip(f"no-{part}", "Porto"), Companies(sold_out=frozenset({part})))
        await book(client, Trip(f"silent-{part}", "Faro"), Companies(silent=frozenset({part})))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite://"))
