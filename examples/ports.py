"""A port for a server that a demonstration, an example or a test starts itself."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Final

HOST: Final = "127.0.0.1"
PORTS: Final = range(10_000, 32_000)
"""Below those that systems give to outgoing connections: between the choice of a port and the start of its server, or
while a server is down, nobody's connection gets it, and no client that tries again and again talks to itself."""
_TRIES: Final = 1000

_given: set[int] = set()


class NoFreePortError(Exception):
    """Every port that was tried is in use."""


def free_port() -> int:
    """A loopback port that nothing uses at this moment; never the same twice in a process."""
    # A program's own random numbers may be seeded, and then two processes would choose the same.
    numbers = random.SystemRandom()
    for _ in range(_TRIES):
        port = numbers.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            if port not in _given:
                _given.add(port)
                return port
    raise NoFreePortError(f"no free port was found from {PORTS.start} to {PORTS.stop - 1}")
