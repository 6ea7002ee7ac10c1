"""What the official `temporal` command is asked to do on both servers: tables of steps, a module for each group."""

from __future__ import annotations

from tests.compat.cli_scenarios import activities, deployments, operator, queues, schedules, workflows
from tests.compat.cli_scenarios.model import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *workflows.SCENARIOS,
    *activities.SCENARIOS,
    *schedules.SCENARIOS,
    *operator.SCENARIOS,
    *queues.SCENARIOS,
    *deployments.SCENARIOS,
)
"""Every scenario; their names are unique."""

__all__ = ["SCENARIOS", "Scenario"]
