"""Modules that a worker passes through do in workflow code what other code may not, as with the official SDK."""

from __future__ import annotations

import types
from collections.abc import Callable

import pytest

from perdure import workflow
from perdure.testing import WorkflowEnvironment
from perdure.worker import Replayer, Worker
from perdure.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from tests.unit.server.support import run

QUEUE = "passed-through"
LIBRARY = """
import os

def report():
    return os.environ.get("HOME_OF_NOBODY", "nobody is at home")
"""


def _library(name: str) -> Callable[[], str]:
    """The function of a module of a package that somebody has installed."""
    module = types.ModuleType(name)
    exec(compile(LIBRARY, f"/somewhere/{name}.py", "exec"), vars(module))  # noqa: S102 - ours
    function: Callable[[], str] = module.report
    return function


report = _library("reporter.scope")
report_of_another = _library("reporters")


@workflow.defn
class Reports:
    """Calls one library or the other."""

    @workflow.run
    async def run(self, which: str) -> str:
        """What it says."""
        return report() if which == "passed through" else report_of_another()


def _runner(*modules: str) -> SandboxedWorkflowRunner:
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(*modules)
    )


def test_a_module_is_passed_through_with_those_inside_of_it_and_no_other() -> None:
    """For a worker and a replayer alike; `reporters` only begins like `reporter`."""

    async def scenario() -> None:
        async with (
            await WorkflowEnvironment.start_local() as environment,
            Worker(
                environment.client,
                task_queue=QUEUE,
                workflows=[Reports],
                workflow_runner=_runner("reporter"),
                workflow_failure_exception_types=[Exception],
            ),
        ):
            client = environment.client
            handle = await client.start_workflow(Reports.run, "passed through", id="one", task_queue=QUEUE)
            assert await handle.result() == "nobody is at home"
            other = await client.start_workflow(Reports.run, "another", id="two", task_queue=QUEUE)
            with pytest.raises(Exception) as failed:
                await other.result()
            assert "os.environ in workflow code" in str(failed.value.__cause__)
            history = await handle.fetch_history()
        await Replayer(workflows=[Reports], workflow_runner=_runner("reporter")).replay_workflow(history)
        with pytest.raises(workflow.NondeterminismError, match=r"os\.environ in workflow code"):
            await Replayer(workflows=[Reports], workflow_runner=_runner()).replay_workflow(history)

    run(scenario())


def test_code_that_takes_a_module_out_of_the_restrictions_finds_it() -> None:
    """As in the official sample for version 1 of Pydantic."""
    children = dict(SandboxRestrictions.invalid_module_members_default.children)
    del children["datetime"]
    assert "os" in children
