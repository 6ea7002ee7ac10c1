"""Templates: their environment, and how values are written for people."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from importlib.resources import files
from typing import Any, Final

import jinja2
from markupsafe import Markup

from perdure import __version__
from perdure.ui.views.workflows import quoted

_SECOND_NS: Final = 1_000_000_000
_MAX_SHOWN: Final = 20_000
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))
_STATUS_CLASSES: Final = {
    "Running": "running", "Completed": "ok", "Failed": "bad", "Timed out": "bad", "Terminated": "bad",
    "Canceled": "quiet", "Continued as new": "quiet", "Paused": "warn", "Started": "running", "Scheduled": "warn",
    "Backing off": "warn", "Pause requested": "warn", "Cancel requested": "warn", "Blocked": "warn",
    "Current": "ok", "Ramping": "running", "Draining": "warn", "Drained": "quiet", "Inactive": "quiet",
    "Active": "ok", "Registered": "ok", "Deprecated": "warn", "Deleted": "bad", "Shutting down": "warn",
    "Shutdown": "quiet", "Succeeded": "ok",
}  # fmt: skip


_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[_./:-])(?=\w)")


@cache
def environment() -> jinja2.Environment:
    """The environment of all templates."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("perdure.ui"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
        auto_reload=False,
    )
    found.filters.update(
        duration=duration, when=when, size=size, pretty=pretty, status_class=status_class, number=number,
        oneline=oneline, quoted=quoted, counted=counted, breaks=breaks,
    )  # fmt: skip
    found.globals.update(version=__version__, assets=asset_version(), most_shown=_MAX_SHOWN)
    return found


@cache
def assets() -> dict[str, bytes]:
    """Our own style, script and pictures, by name."""
    folder = files("perdure.ui") / "static"
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


@cache
def asset_version() -> str:
    """Changes when an asset changes, so that browsers may keep assets for ever."""
    digest = hashlib.sha256()
    for name, data in sorted(assets().items()):
        digest.update(name.encode() + data)
    return digest.hexdigest()[:12]


def duration(seconds: Any) -> str:
    """Seconds for people: `45 ms`, `3.2 s`, `2 min 5 s`, `3 d 4 h`; at most two units."""
    if not isinstance(seconds, int | float):
        return "—"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs" if seconds else "0 s"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    parts: list[str] = []
    for length, unit in (*_UNITS, (1, "s")):
        count, whole = divmod(whole, length)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(text for text in parts if text)


def when(text: Any, style: str = "") -> Markup | str:
    """A `<time>`: in UTC as it is served; a script shows it as the user prefers."""
    if not text or not isinstance(text, str):
        return Markup('<span class="none">—</span>')
    return Markup('<time datetime="{}" data-style="{}">{} {}</time>').format(
        text, style, text[:10], text[11:19]
    )


def size(count: int | None) -> str:
    """Bytes for people."""
    value = float(count or 0)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def number(value: Any) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{int(value or 0):,}".replace(",", "\u202f")


def counted(value: Any, word: str) -> str:
    """So many of something: `1 event`, `2 events`."""
    return f"{number(value)} {word}" + ("" if int(value or 0) == 1 else "s")


def breaks(text: Any) -> Markup:
    """A name that may break where its words do: before capitals, behind what joins them."""
    return Markup("<wbr>").join(_WORDS.split(str(text or "")))


def pretty(value: Any) -> str:
    """JSON over several lines, cut where nobody reads on."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if len(text) > _MAX_SHOWN:
        return f"{text[:_MAX_SHOWN]}\n… cut at {_MAX_SHOWN} of {len(text)} characters; the page's JSON has all of it"
    return text


def oneline(value: Any, most: int = 160) -> str:
    """JSON on one line, cut."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def status_class(status: Any) -> str:
    """The colour of a status."""
    return _STATUS_CLASSES.get(str(status), "quiet")
