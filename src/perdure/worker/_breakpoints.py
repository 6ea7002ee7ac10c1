"""What `breakpoint()` opens in a process that has a worker in debug mode: pdb, in which `q` lets the code go on.

Decided here: `q` and the end of the input mean "I have seen enough", not "make this task fail". With `BdbQuit` the task
would fail and be tried again, and the same breakpoint would stop it again, for ever.
"""

from __future__ import annotations

import logging
import os
import pdb
import sys
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger("perdure.worker")


class LenientPdb(pdb.Pdb):
    """pdb whose `q` drops its breakpoints and goes on, and which leaves Ctrl-C to the worker."""

    def __init__(self) -> None:
        super().__init__(nosigint=True)

    def do_quit(self, arg: str) -> bool | None:
        """q(uit) | exit: leave the debugger; the program goes on."""
        frame = self.curframe
        if frame is not None:
            logger.warning(
                "The debugger was left at %s:%d: the code goes on, and the next breakpoint() stops it again "
                "(none does with PYTHONBREAKPOINT=0)",
                *(Path(frame.f_code.co_filename).name, frame.f_lineno),
            )
        self.clear_all_breaks()
        return self.do_continue(arg)

    do_q = do_quit
    do_exit = do_quit
    do_EOF = do_quit  # noqa: N815 # the name is that of pdb


def _stop(*, header: str | None = None, commands: Sequence[str] | None = None) -> None:
    """As `pdb.set_trace` does, with the same arguments."""
    debugger = LenientPdb()
    if header is not None:
        debugger.message(header)
    debugger.rcLines.extend(commands or ())
    debugger.set_trace(sys._getframe().f_back)


def let_quit_go_on() -> None:
    """From now on `breakpoint()` opens this debugger in this process, unless somebody has chosen another one."""
    if sys.breakpointhook is sys.__breakpointhook__ and not os.environ.get("PYTHONBREAKPOINT"):
        sys.breakpointhook = _stop
