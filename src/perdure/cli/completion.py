"""`perdure completion`: scripts that make shells complete commands, flags and workflow ids."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from datetime import timedelta
from typing import Any, Final

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

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
_BASH: Final = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local response type value completion

    response=$(env COMP_LINE="${COMP_LINE:0:$COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \
%(complete_var)s=bash_complete $1)

    for completion in $response; do
        IFS=',' read type value <<< "$completion"
        COMPREPLY+=($value)
    done

    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

completion = Group(
    "completion", "Print a script that lets a shell complete commands, flags and workflow ids."
)

_INSTALL: Final = {
    "bash": 'eval "$(perdure completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(perdure completion zsh)"   # in ~/.zshrc',
    "fish": "perdure completion fish > ~/.config/fish/completions/perdure.fish",
}


class _Bash(BashComplete):
    """Completion that reads the line itself: bash cuts words at `:` and `=`, which addresses and ids have in them."""

    source_template = _BASH
    _before_cut = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The whole words before the cursor, and what has been typed of the one that is completed."""
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)[1:]
        incomplete = words.pop() if words and not line[-1].isspace() else ""
        flag, separator, value = incomplete.partition("=")
        word = value if separator and flag.startswith("-") else incomplete
        breaks = os.environ.get("COMP_WORDBREAKS", "")
        self._before_cut = word[: 1 + max((word.rfind(one) for one in breaks), default=-1)]
        return words, incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Without what stands before the last cut, because bash keeps that."""
        return f"{item.type},{item.value.removeprefix(self._before_cut)}"


add_completion_class(_Bash)


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
