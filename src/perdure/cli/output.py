"""Where a command's words go: data on stdout in the form that was asked for, everything else on stderr.

One place decides about forms (text, JSON, JSON lines, nothing), colour and progress; commands say what there is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from perdure.cli.command import is_colourful, printable
from perdure.cli.settings import Settings
from perdure.cli.show import Shown, look, to_json

if TYPE_CHECKING:
    from rich.console import Console

_UNLIMITED_WIDTH: Final = 10_000
"""Columns where there is no terminal: nothing is cut that another program reads."""

COLOURS: Final = {
    "Completed": "green", "Running": "blue", "Failed": "red", "TimedOut": "yellow", "Canceled": "magenta",
    "Terminated": "red", "ContinuedAsNew": "cyan", "Paused": "yellow", "SERVING": "green",
}  # fmt: skip
"""Words for a state to the colour that they have on a terminal."""

Columns = Mapping[str, str]
"""Heading to the dotted path of the value in a message."""


class Output:
    """The output of one command.

    Args:
        settings: what was asked for.
    """

    def __init__(self, settings: Settings) -> None:
        self.form = settings.output
        self.has_short_payloads = settings.has_short_payloads
        self.shown = Shown(settings.time_format, datetime.now(UTC))
        self._colour = settings.given.get("color")
        self._count: int | None = None
        self._has_header = False

    @property
    def is_json(self) -> bool:
        """Whether data is JSON, in one or many lines."""
        return self.form in ("json", "jsonl")

    @property
    def is_text(self) -> bool:
        """Whether data is for people."""
        return self.form == "text"

    @property
    def console(self) -> Console:
        """Rich's, on stdout."""
        return self._console(sys.stdout)

    def _console(self, stream: Any) -> Console:
        from perdure.cli.console import PlainConsole

        is_terminal = bool(stream.isatty())
        colourful = is_colourful(self._colour, stream)
        return PlainConsole(
            file=stream,
            force_terminal=is_terminal or colourful,
            no_color=not colourful,
            color_system="auto" if colourful and is_terminal else "standard" if colourful else None,
            width=None if is_terminal else _UNLIMITED_WIDTH,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=not is_terminal,
        )

    def note(self, text: str) -> None:
        """Something to know that is no data, for people only."""
        if self.is_text:
            print(printable(text), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Something to know in any form of output."""
        print(f"Warning: {printable(text)}", file=sys.stderr, flush=True)

    def heading(self, text: str) -> None:
        """A line above data, for people."""
        if self.is_text:
            self.console.print(text, style="bold")

    def line(self, text: str, style: str | None = None) -> None:
        """A line of data for people."""
        if self.is_text:
            self.console.print(printable(text), style=style)

    def blank(self) -> None:
        """An empty line, for people."""
        if self.is_text:
            print()

    # --- JSON

    def json(self, value: Any, *, has_short_payloads: bool | None = None) -> None:
        """One value as JSON; in a list, one of its items."""
        short = self.has_short_payloads if has_short_payloads is None else has_short_payloads
        ready = to_json(value, has_short_payloads=short)
        if self.form == "jsonl":
            text = json.dumps(ready, ensure_ascii=False, separators=(",", ":"))
        else:
            text = json.dumps(ready, ensure_ascii=False, indent=2)
        if self._count is None or self.form == "jsonl":
            print(text, flush=self._count is None)
            return
        print("," if self._count else "")
        print(text, end="")
        self._count += 1

    @contextmanager
    def listing(self) -> Iterator[None]:
        """What is shown inside are the items of a list."""
        self._count, self._has_header = 0, False
        if self.form == "json":
            print("[", end="")
        try:
            yield
        finally:
            if self.form == "json":
                print("\n]")
            self._count = None
            sys.stdout.flush()

    # --- text

    def card(self, values: Mapping[str, Any], *, keep_empty: Iterable[str] = ()) -> None:
        """Names and values, one a line; what has no value is left out."""
        if not self.is_text:
            return
        from rich.text import Text

        shown = {name: self.shown(value) for name, value in values.items()}
        kept = {name: text for name, text in shown.items() if text or name in keep_empty}
        width = max(map(len, kept), default=0)
        console = self.console
        for name, text in kept.items():
            line = Text(f"  {name.ljust(width)}  ", style="dim")
            line.append(text.replace("\n", "\n" + " " * (width + 4)), style=COLOURS.get(text, "default"))
            console.print(line, soft_wrap=True)

    def fields(self, message: Any, columns: Columns) -> None:
        """A card of what is in a message."""
        self.card({name: look(message, path) for name, path in columns.items()})

    def table(self, rows: Sequence[Mapping[str, Any]], headings: Sequence[str]) -> None:
        """Rows with headings, or cards if not even the headings have room; in a list, the next page of it."""
        if not self.is_text or (not rows and self._has_header):
            return
        if sum(len(heading) + 2 for heading in headings) > self.console.width:
            for number, row in enumerate(rows):
                if number:
                    self.blank()
                self.card(row)
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=None,
            pad_edge=False,
            padding=(0, 2, 0, 0),
            show_header=not self._has_header,
            header_style="magenta",
        )
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in rows:
            texts = [self.shown(row.get(heading)) for heading in headings]
            table.add_row(*(Text(text, style=COLOURS.get(text, "default")) for text in texts))
        self.console.print(table)
        self._has_header = self._count is not None

    def messages(self, messages: Sequence[Any], columns: Columns) -> None:
        """A table of messages."""
        rows = [{name: look(message, path) for name, path in columns.items()} for message in messages]
        self.table(rows, list(columns))

    # --- progress

    @contextmanager
    def progress(
        self, what: str, total: int | None = None, *, is_counted: bool = False
    ) -> Iterator[Progress]:
        """A bar on stderr while something goes on; on a terminal only.

        Args:
            what: goes on.
            total: of how many; None if that is not known yet, or never.
            is_counted: it says how many of how many are done; implied by a total.
        """
        is_counted = is_counted or total is not None
        if not (self.is_text and sys.stderr.isatty()):
            yield Progress(None)
            return
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn()]
        columns += [MofNCompleteColumn(separator=" of ")] if is_counted else []
        with Bar(*columns, TimeElapsedColumn(), console=self._console(sys.stderr), transient=True) as bar:
            yield Progress(bar, bar.add_task(what, total=total))


class Progress:
    """How far something is; does nothing where nobody sees it."""

    def __init__(self, bar: Any, task: Any = None) -> None:
        self._bar = bar
        self._task = task

    def update(self, done: int, total: int | None = None) -> None:
        """So much is done, of so much."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
