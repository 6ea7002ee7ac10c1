"""Every verb and every flag that the official `temporal` command shows in its help exists in `perdure`."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import click
import pytest

from perdure.cli.command import Group
from perdure.cli.root import root
from tests.support.servers import find_executable

pytestmark = [pytest.mark.serial, pytest.mark.timeout(120)]

_COMMAND = re.compile(r"^  ([a-z][a-z-]*) {2,}\S")
_ALSO = re.compile(r"^  ([a-z][a-z-]*) \S")
_FLAG = re.compile(r"^ {2,6}(?:-([a-zA-Z]), )?--([a-z0-9-]+)")

NOT_OURS: Final = {
    "help": "`--help` says the same",
    "powershell": "completion is for bash, zsh and fish",
}
"""Verbs of the official command that ours does not have, and why."""
NOT_OUR_FLAGS: Final = {
    "no-descriptions": "scripts for completion have no such choice",
    "help": "every command has it",
}


def _help(path: tuple[str, ...]) -> str:
    command = [find_executable("temporal"), *path, "--help"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def _sections(text: str) -> tuple[list[str], set[str]]:
    """Names of commands and flags in a help text."""
    commands: list[str] = []
    flags: set[str] = set()
    section = ""
    for line in text.splitlines():
        if line and not line.startswith(" "):
            section = line
        elif "Commands" in section:
            match = _COMMAND.match(line) or _ALSO.match(line)
            commands += [match[1]] if match else []
        elif section == "Flags:":
            match = _FLAG.match(line)
            flags |= {match[2], *([f"-{match[1]}"] if match[1] else [])} if match else set()
    return commands, flags


def _official() -> dict[tuple[str, ...], set[str]]:
    """Every command of the official one with the flags that its help shows."""
    found: dict[tuple[str, ...], set[str]] = {}
    paths: list[tuple[str, ...]] = [()]
    with ThreadPoolExecutor(4) as pool:
        while paths:
            texts = list(pool.map(_help, paths))
            following = []
            for path, text in zip(paths, texts, strict=True):
                commands, found[path] = _sections(text)
                following += [(*path, name) for name in commands if name not in NOT_OURS]
            paths = following
    return found


def _own(path: tuple[str, ...]) -> click.Command | None:
    command: click.Command = root
    for name in path:
        if not isinstance(command, Group):
            return None
        with click.Context(command) as ctx:
            inner = command.get_command(ctx, name)
        if inner is None:
            return None
        command = inner
    return command


def test_nothing_of_the_official_command_is_missing() -> None:
    """Our commands have the verbs and flags of the official one, in the same short forms."""
    official = _official()
    assert len(official) > 120, "the help texts are read as they should be"
    missing = []
    for path, flags in official.items():
        command = _own(path)
        if command is None:
            missing.append(" ".join(path))
            continue
        known = {name.removeprefix("--") for param in command.params for name in param.opts}
        missing += [f"{' '.join(path)} {flag}" for flag in sorted(flags - known - {*NOT_OUR_FLAGS, "-h"})]
    assert not missing
