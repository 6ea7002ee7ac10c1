"""Runs Python in a fresh interpreter: what is imported, and in which order, is what these tests check."""

from __future__ import annotations

import subprocess
import sys


def run_python(code: str, *, path: str | None = None, timeout_s: float = 60) -> str:
    """Run `code` in a new interpreter and return what it printed.

    Args:
        code: Source text.
        path: A folder to put in front of `sys.path`.
        timeout_s: Upper bound for the whole run, in seconds.

    Raises:
        AssertionError: the interpreter ended with an error.
    """
    prefix = f"import sys; sys.path.insert(0, {path!r})\n" if path else ""
    done = subprocess.run(
        [sys.executable, "-c", prefix + code], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
