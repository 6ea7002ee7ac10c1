"""How often Python's cyclic garbage collector looks for garbage while a server or worker of this process runs.

Here: the setting and its way back. Not here: anything about what is collected.
"""

from __future__ import annotations

import gc
import threading
from typing import Final

PYTHONS_DEFAULTS: Final = {(700, 10, 10), (2000, 10, 0), (2000, 10, 10)}
"""Of CPython 3.11 to 3.14. Whoever chose others keeps them."""
THRESHOLDS: Final = (50_000, 20, 100)
"""A workflow leaves no cycles, but makes and frees hundreds of objects: with the default every one of them starts a
collection that finds nothing, a fifth of the CPU of an engine with its worker."""

_lock = threading.Lock()
_running = 0
_before: tuple[int, int, int] | None = None


def started() -> None:
    """Makes collections rarer, if nobody has set their thresholds: a server or worker starts."""
    global _before, _running
    with _lock:
        _running += 1
        thresholds = gc.get_threshold()
        if _running == 1 and thresholds in PYTHONS_DEFAULTS:
            _before = thresholds
            gc.set_threshold(*THRESHOLDS)


def stopped() -> None:
    """Puts the thresholds back when the last server or worker has stopped, unless somebody has set them meanwhile."""
    global _before, _running
    with _lock:
        _running -= 1
        if _running == 0 and _before is not None:
            if gc.get_threshold() == THRESHOLDS:
                gc.set_threshold(*_before)
            _before = None
