"""Modules that a worker passes through do in workflow code what other code may not, as with the official SDK."""

from __future__ import annotations

import dataclasses
import datetime
import os
import socket
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import pytest

from perdure import workflow
from perdure.testing import WorkflowEnvironment
from perdure.worker import Replayer, UnsandboxedWorkflowRunner, Worker
from perdure.worker._workflow_programs import permits
from perdure.worker.workflow_code import guards
from perdure.worker.workflow_code.guards import RestrictedWorkflowAccessError
from perdure.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxMatcher, SandboxRestrictions
from tests.unit.guards.test_guards import NOW_NS, Run
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


def _permitted(restrictions: SandboxRestrictions, code: Callable[[], Any]) -> bool:
    """Whether a worker with these restrictions lets workflow code do that."""
    guards.install()
    guards.enter(Run(permits=permits(SandboxedWorkflowRunner(restrictions))))
    try:
        code()
    except RestrictedWorkflowAccessError:
        return False
    finally:
        guards.leave()
    return True


CALLS: dict[str, Callable[[], Any]] = {
    "datetime.date.today": lambda: datetime.date.today(),
    "datetime.datetime.now": lambda: datetime.datetime.now(),
    "os.environ": lambda: os.environ.get("HOME_OF_NOBODY"),
    "os.stat": lambda: os.stat("."),
    "__builtins__.open": lambda: open(os.devnull).close(),
    "threading.Thread.start": lambda: threading.Thread(target=int).start(),
    "socket.socket": lambda: socket.socket().close(),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_taken_out_of_the_restrictions_is_permitted_and_nothing_beside_it(name: str) -> None:
    """With the official SDK, too, it may be called then."""
    members = SandboxRestrictions.invalid_module_members_default
    restrictions = dataclasses.replace(
        SandboxRestrictions.default, invalid_module_members=members.with_child_unrestricted(*name.split("."))
    )
    assert [other for other, code in CALLS.items() if _permitted(restrictions, code)] == [name]
    assert not any(_permitted(SandboxRestrictions.default, code) for code in CALLS.values())


def test_code_that_takes_a_module_out_of_the_restrictions_finds_it() -> None:
    """As in the official sample for version 1 of Pydantic; every call of the module is permitted then."""
    children = dict(SandboxRestrictions.invalid_module_members_default.children)
    del children["datetime"]
    restrictions = dataclasses.replace(
        SandboxRestrictions.default, invalid_module_members=SandboxMatcher(children=children)
    )
    permitted = [name for name, code in CALLS.items() if _permitted(restrictions, code)]
    assert permitted == ["datetime.date.today", "datetime.datetime.now"]


def test_with_all_modules_passed_through_nothing_is_refused_and_clocks_remain_the_workflows() -> None:
    restrictions = SandboxRestrictions.default.with_passthrough_all_modules()
    assert all(_permitted(restrictions, code) for code in CALLS.values())
    times: list[int] = []
    assert _permitted(restrictions, lambda: times.append(time.time_ns()))
    assert times == [NOW_NS]


@pytest.mark.parametrize(
    ("runner", "name"),
    [
        ({"invalid_modules": SandboxMatcher(access={"numpy"})}, "invalid_modules"),
        (
            {
                "invalid_module_members": SandboxRestrictions.invalid_module_members_default
                | SandboxMatcher(children={"numpy": SandboxMatcher(use={"random"})})
            },
            "invalid_module_members",
        ),
    ],
)
def test_restrictions_that_are_added_have_no_effect_and_say_so(runner: dict[str, Any], name: str) -> None:
    restrictions = dataclasses.replace(SandboxRestrictions.default, **runner)
    with pytest.warns(UserWarning, match=name) as warned:
        SandboxedWorkflowRunner(restrictions=restrictions)
    assert warned[0].filename == __file__
    with pytest.warns(UserWarning, match=name):
        assert not _permitted(restrictions, CALLS["datetime.date.today"])


def test_a_runner_class_has_no_effect_and_says_so() -> None:
    with pytest.warns(UserWarning, match="runner_class"):
        SandboxedWorkflowRunner(runner_class=UnsandboxedWorkflowRunner)
