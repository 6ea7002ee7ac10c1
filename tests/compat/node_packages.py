"""Packages from npm for tests that run Node: installed once, from the lockfile."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Final

LEAST_NODE: Final = (20, 3)
INSTALL_TIMEOUT_S: Final = 300.0


def why_not() -> str:
    """Why there can be no tests with Node here; empty if there can."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return "npm and node are not installed"
    shown = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(int(part) for part in shown.strip().removeprefix("v").split(".")) < LEAST_NODE:
        return f"node is older than {LEAST_NODE[0]}.{LEAST_NODE[1]}"
    return ""


def install(package: Path) -> None:
    """`npm ci` unless the installed packages are those of the lockfile; one process at a time."""
    stamp = package / "node_modules" / ".installed-lockfile"
    with (package / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = hashlib.sha256(lock.read()).hexdigest()
        if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
            return
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=package, check=True, timeout=INSTALL_TIMEOUT_S, capture_output=True)
        stamp.write_text(digest, encoding="utf-8")
