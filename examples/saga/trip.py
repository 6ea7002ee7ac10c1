"""The trip: its workflow, its activities, and the other companies' systems as one small ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy
from perdure.contrib.saga import Saga, idempotency_key
from perdure.exceptions import ApplicationError
from perdure.worker import Worker

TASK_QUEUE = "trips"
PARTS = ("car", "hotel", "flight")
ATTEMPT_TIMEOUT = timedelta(seconds=10)
FEW_ATTEMPTS = RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=3)


@dataclass(frozen=True)
class Trip:
    """What the traveller wants."""

    trip_id: str
    city: str
    parts: tuple[str, ...] = PARTS


@dataclass(frozen=True)
class Booking:
    """One part of a trip that was booked."""

    part: str
    reference: str


@dataclass
class Companies:
    """The systems of the car rental, the hotel and the airline. Each takes an idempotency key, as good ones do.

    Attributes:
        sold_out: Parts that cannot be had.
        silent: Parts whose booking takes effect, but whose answer never arrives.
        bookings: Parts by key, as they stand.
        log: What happened, in order.
    """

    sold_out: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    bookings: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def book(self, key: str, part: str) -> None:
        """Books a part, once per key."""
        if key not in self.bookings:
            self.bookings[key] = part
            self.log.append(f"booked {part}")

    def cancel(self, key: str) -> None:
        """Cancels what was booked with this key, if anything was."""
        part = self.bookings.pop(key, None)
        if part is not None:
            self.log.append(f"cancelled {part}")


class Agency:
    """The activities."""

    def __init__(self, companies: Companies) -> None:
        self.companies = companies

    @activity.defn
    async def book(self, part: str, trip: Trip) -> Booking:
        """Books one part; a part that is sold out stays so, and is not tried again."""
        if part in self.companies.sold_out:
            raise ApplicationError(f"no {part} left in {trip.city}", type="SoldOut", non_retryable=True)
        self.companies.book(idempotency_key(), part)
        if part in self.companies.silent:
            raise ConnectionError(f"no answer about the {part}")
        return Booking(part, f"{trip.trip_id}/{part}")

    @activity.defn
    async def cancel(self, part: str, trip: Trip) -> None:
        """Cancels one part if it was booked."""
        self.companies.cancel(idempotency_key())


@workflow.defn
class BookTrip:
    """Books each part in turn; whatever goes wrong, also a cancellation, undoes what was done, newest first."""

    @workflow.run
    async def run(self, trip: Trip) -> list[Booking]:
        """Returns the bookings, or fails with the reason after everything was undone."""
        async with Saga() as saga:
            return [
                await saga.step(
                    Agency.book,
                    args=[part, trip],
                    undo=Agency.cancel,
                    start_to_close_timeout=ATTEMPT_TIMEOUT,
                    retry_policy=FEW_ATTEMPTS,
                )
                for part in trip.parts
            ]


@asynccontextmanager
async def working(client: Client, agency: Agency) -> AsyncIterator[None]:
    """A worker for trips."""
    async with Worker(
        client, task_queue=TASK_QUEUE, workflows=[BookTrip], activities=[agency.book, agency.cancel]
    ):
        yield
