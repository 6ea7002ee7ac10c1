"""`perdure workflow trace`: a workflow with everything it does, and its children with theirs, as a tree."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import histories, wire
from perdure.cli.command import Flags, Group, printable
from perdure.cli.session import Session
from perdure.cli.show import go_duration
from perdure.cli.spans import Span, Story, story_of
from perdure.cli.timeline import STYLES

commands = Group("workflow", "")

REFRESH_S: Final = 1.0
_FOLDED: Final = ("completed", "canceled", "terminated")
_FOLD_WORDS: Final = {
    "running": "running", "completed": "completed", "failed": "failed", "canceled": "canceled",
    "terminated": "terminated", "timedout": "timed out", "continueasnew": "continued as new",
}  # fmt: skip


class _Node:
    """A run and what is known of its children.

    Args:
        workflow_id, run_id: which run.
        story: what happened in it, None if its history is gone.
    """

    def __init__(self, workflow_id: str, run_id: str, story: Story | None) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.story = story
        self.children: dict[int, _Node] = {}

    def as_json(self) -> dict[str, Any]:
        """The tree as JSON."""
        if self.story is None:
            return {"workflowId": self.workflow_id, "runId": self.run_id}
        whole = self.story.whole
        return {
            "workflowId": self.workflow_id,
            "runId": self.run_id,
            "type": whole.name,
            **_state(whole),
            "events": self.story.events,
            "steps": [
                {"kind": span.kind, "name": span.name, **_state(span)}
                | ({"workflow": self.children[index].as_json()} if index in self.children else {})
                for index, span in enumerate(self.story.spans)
            ],
        }


def _state(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {"state": span.state, "began": span.began.isoformat()}
    found |= {"ended": span.ended.isoformat()} if span.ended else {}
    found |= {"attempts": span.attempts} if span.attempts > 1 else {}
    return found | ({"detail": span.detail} if span.detail else {})


@commands.add(
    "trace", f.WORKFLOW_REFERENCE,
    f.choices("--fold", of=tuple(_FOLD_WORDS), help="Children in this state are one line; completed, canceled and "
              "terminated ones without the flag."),
    f.switch("--no-fold", help="Show what every child does."),
    f.integer("--depth", help="Levels of children; -1 means all.", default=-1, show_default=True),
    f.integer("--concurrency", help="Histories to read at once.", default=10, show_default=True),
    f.switch("--no-follow", help="Show how it stands now and end, also if it runs."),
    example="perdure workflow trace --workflow-id order-1 --no-fold",
)  # fmt: skip
async def trace(session: Session, flags: Flags) -> None:
    """Show what a workflow and its children do, as a tree that follows until the workflow is closed.

    Where stdout is no terminal, the tree is shown once: when the workflow is closed, or at once with --no-follow.
    """
    described = await session.call(service.DescribeWorkflowExecutionRequest(execution=wire.execution(flags)))
    execution = described.workflow_execution_info.execution
    limit = asyncio.Semaphore(max(1, flags.concurrency))
    depth = flags.depth if flags.depth >= 0 else 1 << 30
    folded = () if flags.no_fold else tuple(_FOLD_WORDS[word] for word in flags.fold) or _FOLDED
    is_live = session.out.is_text and session.out.console.is_terminal and not flags.no_follow
    if is_live:
        await _follow(session, execution, depth, folded, limit)
        return
    if not flags.no_follow:
        await histories.close_event(session, execution.workflow_id, execution.run_id, waits=True)
    root = await _read(session, execution.workflow_id, execution.run_id, depth, limit)
    if session.out.is_json:
        session.out.json(root.as_json())
    elif session.out.is_text:
        session.out.console.print(_tree(root, folded))


async def _follow(session: Session, execution: Any, depth: int, folded: tuple[str, ...], limit: Any) -> None:
    from rich.live import Live

    with Live(console=session.out.console, auto_refresh=False) as live:
        while True:
            root = await _read(session, execution.workflow_id, execution.run_id, depth, limit)
            live.update(_tree(root, folded), refresh=True)
            if root.story is None or root.story.whole.ended is not None:
                return
            await asyncio.sleep(REFRESH_S)


async def _read(
    session: Session, workflow_id: str, run_id: str, depth: int, limit: asyncio.Semaphore
) -> _Node:
    from perdure.service import RPCError, RPCStatusCode

    try:
        async with limit:
            events = [event async for event in histories.events(session, workflow_id, run_id)]
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        # A child whose retention is over, while its parent goes on.
        return _Node(workflow_id, run_id, None)
    node = _Node(workflow_id, run_id, story_of(events))
    if node.story is None or depth <= 0:
        return node
    indexes = [index for index, span in enumerate(node.story.spans) if span.kind == "child" and span.run_id]
    spans = [node.story.spans[index] for index in indexes]
    found = await asyncio.gather(
        *(_read(session, span.workflow_id, span.run_id, depth - 1, limit) for span in spans)
    )
    node.children = dict(zip(indexes, found, strict=True))
    return node


def _tree(root: _Node, folded: tuple[str, ...]) -> Any:
    from rich.tree import Tree

    tree = Tree(_line(root.story.whole if root.story else None, root.workflow_id))
    _grow(tree, root, folded)
    return tree


def _grow(tree: Any, node: _Node, folded: tuple[str, ...]) -> None:
    for index, span in enumerate(node.story.spans if node.story else ()):
        branch = tree.add(_line(span, ""))
        child = node.children.get(index)
        if child is not None and span.state not in folded:
            _grow(branch, child, folded)


def _line(span: Span | None, name: str) -> Any:
    from rich.text import Text

    if span is None:
        return Text(printable(f"{name}: its history is gone"), style="dim")
    line = Text(printable(f"{span.name} {name}".strip() + " "))
    line.append(span.state, style=STYLES.get(span.state, "default"))
    until = span.ended or datetime.now(UTC)
    line.append(
        f" {go_duration(((until - span.began).total_seconds() * 1000).__trunc__() * 1_000_000)}", style="dim"
    )
    if span.attempts > 1:
        line.append(f" attempt {span.attempts}", style="yellow")
    if span.detail:
        style = "red" if span.state == "failed" else "dim"
        line.append(printable(f" {' '.join(span.detail.split())}"), style=style)
    return line
