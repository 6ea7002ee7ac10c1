"""What a handler answers with: a page, a place to go, or a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from perdure.ui.preferences import Preferences


@dataclass(frozen=True, slots=True)
class Page:
    """A page: what the template shows and the JSON twin holds.

    Attributes:
        template: name of the template.
        title: of the browser's tab.
        data: plain values only.
        status: HTTP status.
        only_html: values that are made for the template, such as drawings.
    """

    template: str
    title: str
    data: Mapping[str, Any]
    status: int = 200
    only_html: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Later:
    """A page that takes a while: its frame is sent at once.

    Attributes:
        frame: a page with the same title and frame and nothing in it.
        whole: makes the page; what it raises is told inside the frame.
    """

    frame: Page
    whole: Callable[[], Awaitable[Page]]


@dataclass(frozen=True, slots=True)
class Redirect:
    """After an action: what was done, and the page that shows it.

    Attributes:
        url: where to go.
        done: what was done, in words; shown there once.
        preferences: kept from now on, if given.
        token: the access token to keep from now on; empty text removes it.
    """

    url: str
    done: str = ""
    preferences: Preferences | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """A file, made while it is sent."""

    name: str
    media_type: str
    parts: AsyncIterator[bytes]


Answer = Page | Later | Redirect | Download


class RefusedError(Exception):
    """The request cannot be served; the message says why and what to do.

    Args:
        status: HTTP status.
        message: for the user.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
