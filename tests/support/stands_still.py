"""A program in the place of an engine's process: never ready, and deaf to the end of its parent."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    while True:
        signal.pause()
