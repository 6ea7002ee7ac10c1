"""Rows of schedules as they were last committed, kept from one look at a schedule to the next: saves reading them.

A bounded cache. May not be here: what a row means, and who may change a schedule when.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from perdure.store.protocol import ScheduleKey, StoredSchedule

CAPACITY: Final = 20_000
"""Rows that are kept, least recently worked on out first."""
MAX_BYTES: Final = 4_096
"""A larger row is not kept; one with ten recent actions has about 3 kB."""


class KeptSchedules:
    """Committed rows of schedules that nobody works on.

    Whoever holds a schedule's lock takes its row out, and puts in what is committed when all is done. So whatever goes
    wrong in between, such as a commit of unknown outcome, leaves nothing here, and the store is asked.
    """

    def __init__(self) -> None:
        self._rows: OrderedDict[ScheduleKey, StoredSchedule] = OrderedDict()

    def take(self, key: ScheduleKey) -> StoredSchedule | None:
        """A schedule's row, which is not kept any more; None if it is not known."""
        return self._rows.pop(key, None)

    def keep(self, row: StoredSchedule) -> None:
        """Keeps what is committed of a schedule."""
        if len(row.entry) + len(row.data) > MAX_BYTES:
            return
        self._rows[row.key] = row
        if len(self._rows) > CAPACITY:
            self._rows.popitem(last=False)
