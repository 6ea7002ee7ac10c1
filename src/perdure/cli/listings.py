"""Lists and counts: one way from a request with pages to a table, JSON or JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from perdure.cli import payloads
from perdure.cli.command import Flags
from perdure.cli.session import Session
from perdure.cli.show import look, to_json

MAX_PAGE: Final = 1000
_TYPE: Final = "type"


@dataclass(frozen=True)
class Listing:
    """What is listed.

    Attributes:
        request: message class of the request; it has `next_page_token`.
        items: field of the answer with the items.
        columns: heading of the table to the path in an item.
        item: what JSON shows of an item, without it all.
        has_short_payloads: whether JSON may show payloads as values; None: as the user wants.
    """

    request: type[Message]
    items: str
    columns: Mapping[str, str]
    item: Callable[[Any], Any] | None = None
    has_short_payloads: bool | None = None


async def show(session: Session, flags: Flags, listing: Listing, request: Any) -> None:
    """Shows all pages of a list, or as much as --limit says."""
    limit: int = flags.get("limit") or 0
    page_size = flags.get("page_size") or (min(limit, MAX_PAGE) if limit else 0)
    fields = request.DESCRIPTOR.fields_by_name
    size_field = next((name for name in ("page_size", "maximum_page_size") if name in fields), None)
    if size_field and page_size and not getattr(request, size_field):
        setattr(request, size_field, min(page_size, limit) if limit else page_size)
    shown = 0
    with session.out.listing():
        while True:
            page = await session.call(request)
            items = list(getattr(page, listing.items))
            items = items[: limit - shown] if limit else items
            shown += len(items)
            _show_page(session, listing, items)
            request.next_page_token = page.next_page_token
            if not page.next_page_token or (limit and shown >= limit):
                return


def _show_page(session: Session, listing: Listing, items: list[Any]) -> None:
    if session.out.is_json:
        for item in items:
            value = listing.item(item) if listing.item else item
            session.out.json(value, has_short_payloads=listing.has_short_payloads)
        return
    rows = [{name: look(item, path) for name, path in listing.columns.items()} for item in items]
    session.out.table(rows, list(listing.columns))


async def show_count(session: Session, request: Any) -> None:
    """Shows how many there are, in groups if the filter says so."""
    answer = await session.call(request)
    for group in getattr(answer, "groups", ()):
        for value in group.group_values:
            value.metadata.pop(_TYPE, None)
    if session.out.is_json:
        session.out.json(answer)
        return
    session.out.line(f"Total: {answer.count}")
    for group in getattr(answer, "groups", ()):
        values = ", ".join(str(to_json(payloads.value_of_one(value))) for value in group.group_values)
        session.out.line(f"  {group.count}  {values}")
