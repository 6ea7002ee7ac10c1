"""A PostgreSQL of one's own: a new cluster in a folder, reached by a socket in that folder, gone afterwards.

May live here: starting and stopping it. May not: what is kept in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

START_TIMEOUT_S: Final = 90
USER: Final = "shop"
_NOBODY: Final = "nobody"
_FAST: Final = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=30"
"""What is in it need not survive a power failure."""


class PostgresMissingError(Exception):
    """The programs are not installed; the message says what to install."""


def _programs() -> Path:
    """The folder with `initdb`; Debian keeps it out of the path."""
    found = shutil.which("initdb")
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found is None and not candidates:
        raise PostgresMissingError("PostgreSQL is not installed (Debian: postgresql)")
    return Path(found).resolve().parent if found else candidates[-1].parent


@contextmanager
def postgres() -> Iterator[dict[str, str]]:
    """Start a cluster; the value is what a client's environment needs to find it.

    Raises:
        PostgresMissingError: It is not installed.
    """
    programs = _programs()
    # As root another user is needed, because initdb refuses root; that user must be able to enter the folder.
    user: dict[str, Any] = (
        {"user": _NOBODY, "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    )
    folder = Path(tempfile.mkdtemp(prefix="perdure-pg-"))
    data = folder / "data"

    def run(*command: str) -> None:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=(folder / "output").open("ab"),  # not a pipe: the server would keep it open
            stderr=subprocess.STDOUT,
            timeout=START_TIMEOUT_S,
            check=False,
            **user,
        )
        assert done.returncode == 0, f"{command[0]}: {(folder / 'output').read_text()}"

    try:
        if user:
            shutil.chown(folder, _NOBODY, "nogroup")
        run(str(programs / "initdb"), *f"-D {data} -U {USER} -A trust -E UTF8 --locale=C --no-sync".split())
        options = f"-c listen_addresses= -c unix_socket_directories={folder} {_FAST}"
        control = str(programs / "pg_ctl")
        try:
            run(control, "start", "-w", "-t", str(START_TIMEOUT_S), "-D", str(data), "-o", options)
            yield {"PGHOST": str(folder), "PGPORT": "5432", "PGUSER": USER, "PGDATABASE": "postgres"}
        finally:
            if (data / "postmaster.pid").exists():
                run(control, "stop", "-w", "-m", "immediate", "-D", str(data))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
