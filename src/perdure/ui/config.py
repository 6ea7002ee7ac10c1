"""What the UI can be told, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CALL_TIMEOUT_S: Final = 10.0
MAX_FORM_BYTES: Final = 4 * 1024 * 1024
MAX_UPLOAD_BYTES: Final = 8 * 1024 * 1024
"""Most bytes of a form with a file in it."""
MAX_PAGE_ROWS: Final = 500
DEFAULT_PAGE_ROWS: Final = 50
HISTORY_PAGE_EVENTS: Final = 100
MAX_SEARCHED_EVENTS: Final = 5_000
"""Most events that one request reads through to find some."""
TIMELINE_EVENTS: Final = 5_000
MAX_CODEC_BYTES: Final = 16 * 1024 * 1024
LIVE_INTERVAL_MS: Final = 2_000


@dataclass(frozen=True, slots=True)
class UiConfig:
    """How one UI is set up.

    Attributes:
        hosts: names, beside IP addresses and `localhost`, that it may be reached by.
        is_local: it listens on this machine alone.
        public_path: what its addresses begin with behind a proxy, such as `/perdure`.
        codec_endpoint: decodes payloads for every user; users may set another one if `is_local`.
        default_namespace: where the UI begins.
        address: the server's, as shown to users.
    """

    hosts: tuple[str, ...] = ()
    is_local: bool = True
    public_path: str = ""
    codec_endpoint: str = ""
    default_namespace: str = "default"
    address: str = ""
