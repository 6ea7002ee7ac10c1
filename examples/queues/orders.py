"""The job: an order comes as a message and is charged.

May live here: the workflow, its activity, and what a message means. May not: brokers.
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import timedelta
from pathlib import Path

from perdure import activity, workflow
from perdure.contrib.bridge import Message, StartWorkflow

TASK_QUEUE = "orders"


class Ledger:
    """A file with one line per charge: what the customers' bank would show."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def charge(self, order: str) -> None:
        """Charge an order, now and without asking whether it was charged before."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(file, f"{order}\n".encode())
        finally:
            os.close(file)

    def charges(self) -> Counter[str]:
        """How often each order was charged."""
        return Counter(self._path.read_text().split()) if self._path.exists() else Counter()


class Bank:
    """The activity and what it writes to."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @activity.defn
    async def charge(self, order: str) -> None:
        """Charge an order."""
        self._ledger.charge(order)


@workflow.defn
class Order:
    """Charges an order. A real one would go on for days: pack, ship, wait for the customer."""

    @workflow.run
    async def run(self, order: str) -> None:
        """Charge it."""
        await workflow.execute_activity_method(
            Bank.charge, order, start_to_close_timeout=timedelta(seconds=10)
        )


def decide(message: Message) -> StartWorkflow:
    """One workflow for each message."""
    return StartWorkflow(Order.run, message.json()["order"], task_queue=TASK_QUEUE)
