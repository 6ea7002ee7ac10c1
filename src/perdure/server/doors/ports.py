"""What can go wrong with the port of a door."""

from __future__ import annotations

import errno

from perdure.core.errors import PerdureError


class PortError(PerdureError):
    """The address cannot be listened on: in use, not ours, or not an address."""


def why(error: Exception) -> object:
    """What an error of the system says, without its number, and what to do if the port is taken."""
    text = getattr(error, "strerror", None) or error
    is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
    return f"{text}. Perhaps a server runs there already; any other port will do" if is_taken else text
