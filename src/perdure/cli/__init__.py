"""The command line: `perdure VERB ...`. Each command is a module of its own, imported when it is called.

May live here: flags, output, exit codes. May not: anything a server or a client does.
"""

from __future__ import annotations


def main() -> None:
    """Entry of the `perdure` command."""
    try:
        from perdure.cli.root import run
    except KeyboardInterrupt:  # before there is anything that handles it
        raise SystemExit(130) from None
    run()
