"""What can go wrong with the port of a door."""

from __future__ import annotations

from perdure.core.errors import PerdureError


class PortError(PerdureError):
    """The address cannot be listened on: in use, not ours, or not an address."""


def why(error: Exception) -> object:
    """What an error of the system says, without its number."""
    return getattr(error, "strerror", None) or error
