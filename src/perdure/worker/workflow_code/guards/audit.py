"""I/O, threads and processes, refused in workflow code by the interpreter's audit events.

The hook stays for the life of the process, as audit hooks do; outside workflow code it is one thread-local read per
audited operation, and those are system calls anyway.
"""

from __future__ import annotations

import sys
from typing import Any

from perdure.worker.workflow_code.guards.errors import refuse
from perdure.worker.workflow_code.guards.state import armed

_IN_ACTIVITY = "do it in an activity."
_NETWORK = "call the network in an activity."
_PROCESS = "run programs in an activity."
_FILES = "read and write files in an activity."

EVENTS: dict[str, tuple[str, str]] = {
    "time.sleep": ("time.sleep()", "await asyncio.sleep(seconds), which is a durable timer."),
    "_thread.start_new_thread": ("threading.Thread.start()", "asyncio.create_task(...), or an activity."),
    "subprocess.Popen": ("subprocess.Popen()", _PROCESS),
    "os.system": ("os.system()", _PROCESS),
    "os.exec": ("os.exec()", _PROCESS),
    "os.fork": ("os.fork()", _PROCESS),
    "os.forkpty": ("os.forkpty()", _PROCESS),
    "os.posix_spawn": ("os.posix_spawn()", _PROCESS),
    "os.spawn": ("os.spawn()", _PROCESS),
    "os.startfile": ("os.startfile()", _PROCESS),
    "os.kill": ("os.kill()", _IN_ACTIVITY),
    "os.putenv": ("os.environ", _IN_ACTIVITY),
    "os.unsetenv": ("os.environ", _IN_ACTIVITY),
    "socket.__new__": ("socket.socket()", _NETWORK),
    "socket.connect": ("socket.connect()", _NETWORK),
    "socket.bind": ("socket.bind()", _NETWORK),
    "socket.sendto": ("socket.sendto()", _NETWORK),
    "socket.getaddrinfo": ("socket.getaddrinfo()", _NETWORK),
    "socket.gethostbyname": ("socket.gethostbyname()", _NETWORK),
    "socket.gethostbyaddr": ("socket.gethostbyaddr()", _NETWORK),
    "socket.gethostname": ("socket.gethostname()", _NETWORK),
    "urllib.Request": ("urllib.request", _NETWORK),
    "smtplib.connect": ("smtplib", _NETWORK),
    "ftplib.connect": ("ftplib", _NETWORK),
    "sqlite3.connect": ("sqlite3.connect()", "use the database in an activity."),
    "builtins.input": ("input()", "wait for a signal or an update."),
    "webbrowser.open": ("webbrowser.open()", _IN_ACTIVITY),
    "tempfile.mkstemp": ("tempfile", _FILES),
    "tempfile.mkdtemp": ("tempfile", _FILES),
    **{
        event: (f"{event}()", _FILES)
        for event in (
            "open", "os.chmod", "os.chown", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
            "os.scandir", "os.symlink", "os.truncate", "os.utime", "os.walk", "os.chdir", "shutil.copyfile",
            "shutil.move", "shutil.rmtree", "shutil.copytree", "glob.glob", "glob.glob/2",
        )
    },
}  # fmt: skip
"""Audit event to what the message calls it and what to do instead (docs.python.org/3/library/audit_events.html)."""


def install() -> None:
    """Adds the hook. Once per process: audit hooks cannot be removed."""
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if armed.run is not None and event in EVENTS and not (event == "open" and _is_time_zone(arguments[0])):
        refuse(*EVENTS[event])


def _is_time_zone(path: object) -> bool:
    """Whether a file belongs to the time zone database: `ZoneInfo` reads it without a frame of its own."""
    library = sys.modules.get("zoneinfo")
    return library is not None and isinstance(path, str) and path.startswith(tuple(library.TZPATH))
