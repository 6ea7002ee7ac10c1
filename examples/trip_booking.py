"""A saga: a trip is a flight, a hotel and a car; when one cannot be had, what was booked before is cancelled again.

Run `python -m examples.trip_booking`: one trip succeeds, one fails at the car and is undone.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError
from perdure.common import RetryPolicy
from perdure.exceptions import ApplicationError
from perdure.worker import Worker

TASK_QUEUE = "trips"
STEP_TIMEOUT = timedelta(seconds=10)
FEW_ATTEMPTS = RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=3)


@dataclass(frozen=True)
class Trip:
    """What the traveller wants."""

    trip_id: str
    city: str
    wants_car: bool = True


@dataclass(frozen=True)
class Booking:
    """One part of a trip that was booked."""

    part: str
    reference: str


class Agency:
    """The activities, with the other companies' systems replaced by a list."""

    def __init__(self, sold_out: frozenset[str] = frozenset()) -> None:
        self.sold_out = sold_out
        self.log: list[str] = []

    @activity.defn
    async def book(self, part: str, trip: Trip) -> Booking:
        """Books one part; a part that is sold out stays so, and is not tried again."""
        if part in self.sold_out:
            raise ApplicationError(f"no {part} left in {trip.city}", type="SoldOut", non_retryable=True)
        self.log.append(f"booked {part}")
        return Booking(part, f"{trip.trip_id}/{part}")

    @activity.defn
    async def cancel(self, part: str, trip: Trip) -> None:
        """Cancels one part if it was booked; harmless when repeated."""
        if f"booked {part}" in self.log:
            self.log.append(f"cancelled {part}")


@workflow.defn
class BookTrip:
    """Books each part in turn; whatever goes wrong, also a cancellation, undoes what was done, newest first."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], Awaitable[None]]] = []

    @workflow.run
    async def run(self, trip: Trip) -> list[Booking]:
        """Returns the bookings, or fails with the reason after everything was undone."""
        parts = ["flight", "hotel", *(["car"] if trip.wants_car else [])]
        try:
            return [await self._book(part, trip) for part in parts]
        except BaseException:
            # Shielded: a cancelled workflow still has to undo.
            await asyncio.shield(self._undo_all())
            raise

    async def _book(self, part: str, trip: Trip) -> Booking:
        async def undo() -> None:
            await workflow.execute_activity_method(
                Agency.cancel, args=[part, trip], start_to_close_timeout=STEP_TIMEOUT
            )

        # Noted before it is tried: an attempt that nobody heard of any more may have booked all the same.
        self._undo.append(undo)
        booking = workflow.start_activity_method(
            Agency.book, args=[part, trip], start_to_close_timeout=STEP_TIMEOUT, retry_policy=FEW_ATTEMPTS
        )
        try:
            return await asyncio.shield(booking)
        except asyncio.CancelledError:
            # What is under way ends before it is undone.
            await workflow.wait([booking])
            raise

    async def _undo_all(self) -> None:
        while self._undo:
            await self._undo.pop()()


@asynccontextmanager
async def working(client: Client, agency: Agency) -> AsyncIterator[None]:
    """A worker for trips."""
    async with Worker(
        client, task_queue=TASK_QUEUE, workflows=[BookTrip], activities=[agency.book, agency.cancel]
    ):
        yield


async def main(address: str) -> None:
    """Books two trips, of which the second cannot be had."""
    client = await Client.connect(address)
    for city, agency in (("Lisbon", Agency()), ("Porto", Agency(sold_out=frozenset({"car"})))):
        async with working(client, agency):
            trip = Trip(f"trip-to-{city}", city)
            try:
                bookings = await client.execute_workflow(
                    BookTrip.run, trip, id=trip.trip_id, task_queue=TASK_QUEUE
                )
                print(f"{city}: {', '.join(booking.reference for booking in bookings)}")
            except WorkflowFailureError as error:
                cause = error.cause.__cause__ or error.cause
                print(f"{city}: {cause}; {', '.join(agency.log)}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite://"))
