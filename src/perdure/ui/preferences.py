"""What a user prefers: theme, times, columns, saved views, the codec. Kept in one cookie of the browser."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

COOKIE: Final = "perdure_ui"
TOKEN_COOKIE: Final = "perdure_ui_token"
FLASH_COOKIE: Final = "perdure_ui_done"
MAX_COOKIE_BYTES: Final = 3_800
"""Browsers keep 4,096 bytes of a cookie, name and attributes included."""
MAX_VIEWS: Final = 20
THEMES: Final = ("auto", "light", "dark")
TIMES: Final = ("local", "utc", "relative")
COLUMNS: Final = (
    "status", "id", "type", "start", "close", "duration", "run", "task_queue", "history", "size", "parent", "memo",
)  # fmt: skip
DEFAULT_COLUMNS: Final = ("status", "id", "type", "start", "close", "duration", "task_queue")


class PreferencesTooLargeError(ValueError):
    """They do not fit into a cookie."""


@dataclass(frozen=True, slots=True)
class View:
    """A saved view of the list of workflows."""

    name: str
    query: str


@dataclass(frozen=True, slots=True)
class Preferences:
    """A user's preferences; anything unreadable in a cookie is the default."""

    theme: str = "auto"
    times: str = "local"
    columns: tuple[str, ...] = DEFAULT_COLUMNS
    views: tuple[View, ...] = ()
    codec_endpoint: str = ""
    codec_auth: bool = False
    search_columns: tuple[str, ...] = field(default=())

    def with_view(self, name: str, query: str) -> Preferences:
        """With a view under a name, instead of the one it had."""
        views = [view for view in self.views if view.name != name]
        return replace(self, views=(*views, View(name, query)))

    def without_view(self, name: str) -> Preferences:
        """Without a view."""
        return replace(self, views=tuple(view for view in self.views if view.name != name))


def write(preferences: Preferences) -> str:
    """The cookie's value.

    Raises:
        PreferencesTooLargeError: they do not fit.
    """
    text = json.dumps(asdict(preferences), separators=(",", ":"))
    value = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    if len(value) > MAX_COOKIE_BYTES or len(preferences.views) > MAX_VIEWS:
        raise PreferencesTooLargeError(
            "The browser has no room for more saved views; remove one, or shorten a query."
        )
    return value


def read(value: str) -> Preferences:
    """Preferences from a cookie's value, whatever somebody put there."""
    try:
        found = json.loads(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
    except (ValueError, RecursionError):
        return Preferences()
    if not isinstance(found, dict):
        return Preferences()
    columns = tuple(name for name in _texts(found.get("columns")) if name in COLUMNS)
    views = found.get("views")
    return Preferences(
        theme=_one_of(found.get("theme"), THEMES),
        times=_one_of(found.get("times"), TIMES),
        columns=columns or DEFAULT_COLUMNS,
        views=tuple(_views(views if isinstance(views, list) else ())),
        codec_endpoint=_text(found.get("codec_endpoint")),
        codec_auth=found.get("codec_auth") is True,
        search_columns=tuple(_texts(found.get("search_columns"))),
    )


def _one_of(value: Any, options: tuple[str, ...]) -> str:
    return value if value in options else options[0]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _views(values: Any) -> list[View]:
    return [
        View(_text(value.get("name")), _text(value.get("query")))
        for value in values
        if isinstance(value, dict) and _text(value.get("name"))
    ]
