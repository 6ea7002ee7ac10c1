"""What building the documentation's site needs beyond its configuration.

Only that: nothing that changes what a page says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

NOT_PUBLIC = frozenset({"api", "cli", "core", "store", "ui"})
PUBLIC_OF_SERVER = frozenset({"server", "config", "lifetime"})


def on_startup(**_: Any) -> None:
    """The reference reads every module of the package that it documents: leave out those that no page shows.

    They are three quarters of the source text, and reading them takes longer than making all pages.
    """
    iterate = griffe.ModuleFinder.iter_submodules

    def public(
        self: griffe.ModuleFinder, path: Path | list[Path], seen: set[Any] | None = None
    ) -> Iterator[tuple[tuple[str, ...], Path]]:
        for names, file in iterate(self, path, seen):
            if names[0] in NOT_PUBLIC or (names[0] == "server" and not PUBLIC_OF_SERVER.issuperset(names)):
                continue
            yield names, file

    griffe.ModuleFinder.iter_submodules = public  # type: ignore[method-assign]
