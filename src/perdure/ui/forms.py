"""Forms as tables: fields, what was entered, what is wrong with it. One template shows them all."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from perdure.api.common.v1 import Payload, Payloads
from perdure.api.protobuf import Duration, Timestamp
from perdure.service import RPCError
from perdure.ui.codec import CodecError
from perdure.ui.context import Context
from perdure.ui.page import Page, Redirect
from perdure.ui.plain import read_payload
from perdure.ui.problems import http_status, problem

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)")
_MOST: Final = 2**31 - 1
_LONGEST_S: Final = 100 * 365 * 86_400.0
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


class FieldError(ValueError):
    """What was entered into a field cannot be used; the message says what could.

    Args:
        name: the field's.
        message: for the user.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class Field:
    """One field.

    Attributes:
        name: of the field in the form.
        label: for the user.
        kind: text, area (several lines), json (payloads), check, select, number, duration, time or hidden.
        help: a sentence below it.
        is_required: it cannot be left empty.
        options: of a select: value and label.
        initial: what it holds before anybody entered something.
    """

    name: str
    label: str
    kind: str = "text"
    help: str = ""
    is_required: bool = False
    options: tuple[tuple[str, str], ...] = ()
    initial: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """A form, and what sending it does.

    Attributes:
        title: of its page.
        button: what sending it is called.
        fields: in order.
        send: does it; raises `FieldError` or `RPCError` when it cannot.
        about: what it does, in a sentence or two.
        is_dangerous: it ends or removes something.
        load: initial values of fields, and other values for the page.
        nav: the part of the UI it belongs to.
        note: a template that is shown with it, empty for none.
    """

    title: str
    button: str
    fields: tuple[Field, ...]
    send: Callable[[Context, Values], Awaitable[Redirect]]
    about: str = ""
    is_dangerous: bool = False
    load: Callable[[Context], Awaitable[Mapping[str, str]]] | None = None
    nav: str = ""
    back: Callable[[Context], str] | None = None


@dataclass(slots=True)
class Values:
    """What was entered, by field; reading a value checks it."""

    entered: Mapping[str, str]
    form: Form
    context: Context = field(repr=False)

    def text(self, name: str) -> str:
        """A text without spaces around it."""
        value = self.entered.get(name, "").strip()
        chosen = next(one for one in self.form.fields if one.name == name)
        if chosen.is_required and not value:
            raise FieldError(name, f"{chosen.label} is needed.")
        if chosen.kind == "select" and value not in {option for option, _ in chosen.options}:
            raise FieldError(name, "Choose one of the list.")
        return value

    def check(self, name: str) -> bool:
        """Whether a box is checked."""
        return self.entered.get(name, "") not in ("", "off", "false")

    def whole(self, name: str) -> int:
        """A whole number; 0 if nothing was entered."""
        text = self.text(name)
        if not text:
            return 0
        if not text.isascii() or not text.isdigit():
            raise FieldError(name, "A whole number is needed.")
        digits = text.lstrip("0") or "0"
        if len(digits) > len(str(_MOST)) or int(digits) > _MOST:
            raise FieldError(name, f"A whole number is needed, at most {_MOST}.")
        return int(digits)

    def duration(self, name: str) -> Duration | None:
        """A duration such as `1h 30m`; None if nothing was entered."""
        text = self.text(name)
        return None if not text else read_duration(text, name)

    def time(self, name: str) -> Timestamp | None:
        """A moment in UTC; None if nothing was entered."""
        text = self.text(name)
        return None if not text else read_time(text, name)

    async def payloads(self, name: str) -> Payloads | None:
        """JSON values, one after the other, as payloads; encoded if there is a codec. None if nothing was entered."""
        found = [_payload(value, name) for value in read_values(self.entered.get(name, ""), name)]
        if not found:
            return None
        return Payloads(payloads=await self._encoded(name, found))

    async def mapping(self, name: str, *, encodes: bool = True) -> dict[str, Payload]:
        """A JSON object of values as payloads by name; encoded if there is a codec, unless servers read them."""
        values = read_values(self.entered.get(name, ""), name)
        if not values:
            return {}
        if len(values) != 1 or not isinstance(values[0], dict):
            raise FieldError(name, 'A JSON object is needed, such as {"customer": "A-1"}.')
        found = {key: _payload(value, name) for key, value in values[0].items()}
        if not encodes or not found:
            return found
        return dict(zip(found, await self._encoded(name, list(found.values())), strict=True))

    async def _encoded(self, name: str, payloads: list[Payload]) -> list[Payload]:
        try:
            codec = self.context.codec()
            return payloads if codec is None else await codec.apply("encode", payloads)
        except CodecError as error:
            raise FieldError(name, str(error)) from error


def read_duration(text: str, name: str) -> Duration:
    """A duration such as `90s`, `1h 30m` or `45` (seconds).

    Raises:
        FieldError: it is none.
    """
    seconds = 0.0
    rest = text
    if re.fullmatch(r"\d+(\.\d+)?", text):
        seconds, rest = float(text), ""
    while rest:
        match = _DURATION.match(rest)
        if match is None:
            raise FieldError(name, "A duration is needed, such as 90s, 1h 30m or 2d.")
        seconds += float(match[1]) * _UNIT_S[match[2]]
        rest = rest[match.end() :].strip()
    if seconds > _LONGEST_S:
        raise FieldError(name, "This duration is too long.")
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def duration_text(duration: Duration) -> str:
    """A duration as `read_duration` reads it; empty for none."""
    nanoseconds = duration.ToNanoseconds()
    return f"{nanoseconds / 1e9:.9f}".rstrip("0").rstrip(".") + "s" if nanoseconds else ""


def read_time(text: str, name: str) -> Timestamp:
    """A moment such as `2026-01-31T12:00` or `2026-01-31 12:00:05Z`; in UTC unless it says otherwise.

    Raises:
        FieldError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text.replace(" ", "T", 1))
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise FieldError(name, "A moment is needed, such as 2026-01-31 12:00 (UTC).") from None
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def read_values(text: str, name: str) -> list[Any]:
    """JSON values that follow each other.

    Raises:
        FieldError: something is no JSON; the message says where.
    """
    decoder = json.JSONDecoder(parse_constant=_refuse)
    values: list[Any] = []
    at = 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))
        if at >= len(text):
            break
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise FieldError(
                name,
                f"No JSON in line {error.lineno}, column {error.colno}: {error.msg}. A text needs quotes.",
            ) from None
        except (ValueError, RecursionError) as error:
            raise FieldError(name, f"This JSON cannot be used: {error}.") from None
        values.append(value)
    return values


def _payload(value: Any, name: str) -> Payload:
    try:
        return read_payload(value)
    except RecursionError:
        raise FieldError(name, "This JSON is nested too deeply.") from None


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


async def refuse(context: Context, values: Values) -> Redirect:
    """For forms that are only read."""
    raise FieldError("", "This form is not sent.")


async def serve(form: Form, context: Context) -> Page | Redirect:
    """Shows a form, or sends it and goes on; shows it again, with what was entered, if it cannot be sent."""
    if context.method in ("GET", "HEAD"):
        loaded = await form.load(context) if form.load is not None else {}
        entered = {
            one.name: context.query.get(one.name) or loaded.get(one.name, one.initial) for one in form.fields
        }
        return page(form, context, entered)
    entered = {one.name: context.form.get(one.name, [""])[0] for one in form.fields}
    try:
        return await form.send(context, Values(entered, form, context))
    except FieldError as error:
        return page(form, context, entered, 400, {error.name: str(error)})
    except RPCError as error:
        return page(form, context, entered, http_status(error), {"": problem(error)})


def page(
    form: Form,
    context: Context,
    entered: Mapping[str, str],
    status: int = 200,
    errors: Mapping[str, Any] | None = None,
) -> Page:
    """The page of a form."""
    data = {
        "form": {
            "title": form.title,
            "button": form.button,
            "about": form.about,
            "is_dangerous": form.is_dangerous,
            "nav": form.nav,
            "back": form.back(context) if form.back is not None else "",
            "fields": [
                {
                    "name": one.name,
                    "label": one.label,
                    "kind": one.kind,
                    "help": one.help,
                    "is_required": one.is_required,
                    "options": [list(option) for option in one.options],
                    "value": entered.get(one.name, ""),
                    "error": (errors or {}).get(one.name, ""),
                }
                for one in form.fields
            ],
            "error": (errors or {}).get("", None),
        }
    }
    return Page("form.html", form.title, data, status)
