"""`perdure workflow`: the group; its verbs are in the `workflow_*` modules."""

from __future__ import annotations

from perdure.cli import (
    workflow_change,
    workflow_messages,
    workflow_reset,
    workflow_start,
    workflow_trace,
    workflow_view,
)
from perdure.cli.command import Group

workflow = Group(
    "workflow",
    "Start workflows and do everything else with them.",
    parts=(
        workflow_start.commands,
        workflow_messages.commands,
        workflow_view.commands,
        workflow_change.commands,
        workflow_reset.commands,
        workflow_trace.commands,
    ),
)
