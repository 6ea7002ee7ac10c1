"""Guards: what would break replay is made deterministic where that is clean, and refused with a typed error elsewhere.

The guards are armed in one thread while workflow code runs in it (`enter`, `leave`); everywhere else they cost a
thread-local read. `functions.py` replaces functions of `time`, `random`, `uuid` and `os`; `audit.py` refuses I/O by the
interpreter's audit events; `waits.py` and `objects.py` (locks) refuse to wait for threads; `calls.py` finds what
cannot be replaced (`datetime.now`, names imported before). No guard needs workflow modules to be imported again, so
workflow code can be stepped through in a debugger.
"""

from perdure.worker.workflow_code.guards.arming import enter, install, leave, unguarded, watch
from perdure.worker.workflow_code.guards.errors import RestrictedWorkflowAccessError
from perdure.worker.workflow_code.guards.state import GuardedRun, Permits
from perdure.worker.workflow_code.guards.waits import install as install_waits

__all__ = [
    "GuardedRun",
    "Permits",
    "RestrictedWorkflowAccessError",
    "enter",
    "install",
    "install_waits",
    "leave",
    "unguarded",
    "watch",
]
