"""Rich's console, for texts that others wrote: what would steer the terminal is written out instead."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from perdure.cli.command import printable


class PlainConsole(Console):
    """A console whose only control sequences are its own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is to be written; colours and movements are added to it later."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)

    def on_broken_pipe(self) -> None:
        """Whoever read the output has seen enough: left to the command, rich would end the process as failed."""
        raise  # noqa: PLE0704  it is called where the error is being handled
