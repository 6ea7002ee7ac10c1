"""`perdure completion`: scripts that make shells complete commands, flags and workflow ids."""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import timedelta
from typing import Any, Final

import click

from perdure.cli.command import Flags, Group, given
from perdure.cli.errors import CommandError
from perdure.cli.session import Session
from perdure.cli.settings import of_process

MAX_IDS: Final = 50
LIMIT_S: Final = 2.0
"""How long a shell waits for ids at most; without a server there are none."""
_HARMLESS: Final = re.compile(r"[\w./:@%+=,#-]+")
"""Ids that a shell takes as they are. Others may choose ids, and what is completed stands in the command line unquoted:
one with a `$(...)` in it would be run."""
_VARIABLE: Final = "_PERDURE_COMPLETE"

completion = Group(
    "completion", "Print a script that lets a shell complete commands, flags and workflow ids."
)

_INSTALL: Final = {
    "bash": 'eval "$(perdure completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(perdure completion zsh)"   # in ~/.zshrc',
    "fish": "perdure completion fish > ~/.config/fish/completions/perdure.fish",
}


def _printing(shell: str) -> Any:
    def body(session: Session, flags: Flags) -> None:
        from click.shell_completion import get_completion_class

        kind = get_completion_class(shell)
        if kind is None:
            raise CommandError(f"there is no completion for {shell}")
        made = kind(session.ctx.find_root().command, {}, "perdure", _VARIABLE)
        # Not `source()`: it runs the shell to see whether it is new enough, and the script may be for another machine.
        sys.stdout.write(made.source_template % made.source_vars() + "\n")

    body.__doc__ = f"Print the completion script for {shell}."
    return body


for _shell, _example in _INSTALL.items():
    completion.add(_shell, example=_example)(_printing(_shell))


def workflow_ids(ctx: click.Context, incomplete: str) -> list[str]:
    """Ids of workflows that begin like this, newest first; none where no server answers in time."""
    from perdure.cli.errors import CommandError

    session = Session(of_process(given(ctx)), ctx)
    try:
        return asyncio.run(_ids(session, incomplete))
    except (CommandError, OSError, TimeoutError):
        # A shell that completes shows nothing rather than an error.
        return []


async def _ids(session: Session, incomplete: str) -> list[str]:
    from perdure.api.workflowservice import v1 as service
    from perdure.service import RPCError

    quoted = incomplete.replace("'", "''")
    query = f"WorkflowId STARTS_WITH '{quoted}'" if incomplete else ""
    try:
        async with asyncio.timeout(LIMIT_S):
            connected = await session.service()
            answer = await connected.workflow_service.list_workflow_executions(
                service.ListWorkflowExecutionsRequest(
                    namespace=session.namespace, query=query, page_size=MAX_IDS
                ),
                timeout=timedelta(seconds=LIMIT_S),
            )
    except RPCError:
        return []
    finally:
        await session.close()
    found = dict.fromkeys(info.execution.workflow_id for info in answer.executions)
    return [workflow_id for workflow_id in found if _HARMLESS.fullmatch(workflow_id)]
