"""Runs the scenarios of the official command with `perdure` in its place, inside this process."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from perdure.cli import root
from tests.compat.cli_runner import CliRun, printed_of
from tests.differential.compare import Record

_ONE_AT_A_TIME: Final = threading.Lock()
"""Standard output belongs to the process."""


def run_command(words: Sequence[str]) -> dict[str, Any]:
    """What `perdure WORDS` prints; every failure is exit code 1, as officially."""
    output, errors = io.StringIO(), io.StringIO()
    with _ONE_AT_A_TIME, contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = root.exit_code_of(list(words))
    return {**printed_of(min(code, 1), output.getvalue(), errors.getvalue()), "code": code}


def comparable(records: Sequence[Record]) -> list[Record]:
    """Records without what the commands say in words of their own, and without zeros that only one of them sends."""
    return [replace(record, data=_without_zeros(record.data, top=True)) for record in records]


def _without_zeros(data: Any, *, top: bool = False) -> Any:
    if isinstance(data, list):
        return [_without_zeros(each) for each in data]
    if not isinstance(data, dict):
        return data
    return {
        name: _without_zeros(value)
        for name, value in data.items()
        if value not in ("0s", {}) and not (top and name in ("errors", "code"))
    }


class OwnCliRun(CliRun):
    """One scenario on one server, with our command."""

    async def _command(self, words: Sequence[str]) -> dict[str, Any]:
        return await asyncio.to_thread(run_command, self._complete(words))
