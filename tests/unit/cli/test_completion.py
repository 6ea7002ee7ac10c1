"""What somebody gets who presses Tab: each shell runs its script, and `perdure` answers.

zsh and fish are not on every machine; `scripts/prepare.sh shells` installs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from click.shell_completion import CompletionItem

from perdure.cli import completion, root

LIMIT_S: Final = 120.0
_BASH: Final = """
source ./script
COMP_LINE=$1 COMP_POINT=${#1}
_perdure_completion perdure
printf '%s\\n' "${COMPREPLY[@]}"
"""
_ZSH: Final = """
compdef() { }
source ./script
_describe() { print -rl -- ${(P)3} }
compadd() { while [[ $1 == -* ]]; do shift; [[ $1 == unsorted ]] && shift; done; print -rl -- ${(P)1-$@} }
words=(${(z)1}) CURRENT=${#words}
_perdure_completion
"""
_FISH: Final = "source ./script; complete -C $argv[1]"
_RUN: Final = {
    "bash": ("bash", "--norc", "-c", _BASH, "bash"),
    "zsh": ("zsh", "-f", "-c", _ZSH, "zsh"),
    "fish": ("fish", "--no-config", "-c", _FISH),
}
"""Shell to a command that prints what it would offer for the line that follows."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a `perdure` in it that a shell finds."""
    command = tmp_path / "perdure"
    command.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from perdure.cli import main; main()' \"$@\"\n")
    command.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("shell", _RUN)
def test_a_shell_offers_commands_and_flags(
    shell: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script that `perdure completion` prints, in the shell that it is for."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here: its completion was not tried")
    assert root.exit_code_of(["completion", shell]) == 0
    (folder / "script").write_text(capsys.readouterr().out)
    for typed, offered in (
        ("perdure workflow desc", "describe"),
        ("perdure workflow list --address sqlite:///orders.db --que", "--query"),
    ):
        done = subprocess.run(
            [*_RUN[shell], typed],
            cwd=folder,
            env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert [line.split("\t")[0].split(":")[0] for line in done.stdout.split()[:1]] == [offered], done


@pytest.mark.parametrize(
    ("line", "breaks", "words", "incomplete", "printed"),
    [
        ("perdure a --address x:1 -w o", " :=", ["a", "--address", "x:1", "-w"], "o", "shop:7"),
        ("perdure a -w shop:", " :=", ["a", "-w"], "shop:", "7"),
        ("perdure a -w shop:", " =", ["a", "-w"], "shop:", "shop:7"),
        ("perdure a --workflow-id=shop:", " :=", ["a"], "--workflow-id=shop:", "7"),
        ("perdure a ", " :=", ["a"], "", "shop:7"),
    ],
)
def test_bash_is_answered_with_what_follows_its_last_cut(
    line: str,
    breaks: str,
    words: list[str],
    incomplete: str,
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """bash cuts words at colons; an address stays one word, and an id is not offered with its beginning twice."""
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_WORDBREAKS", breaks)
    asked = completion._Bash(root.root, {}, "perdure", "_PERDURE_COMPLETE")
    assert asked.get_completion_args() == (words, incomplete)
    assert asked.format_completion(CompletionItem("shop:7")) == f"plain,{printed}"
