"""Where a server reports that a workflow is over.

May live here: that value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Callback:
    """A URL that is called when a workflow is over."""

    url: str
    """The URL."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of that call."""
