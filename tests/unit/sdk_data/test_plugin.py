"""A plugin made from values adds and replaces what it says, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import perdure.client
import perdure.worker
from perdure.contrib.pydantic import pydantic_data_converter
from perdure.converter import DataConverter
from perdure.plugin import SimplePlugin
from perdure.worker import UnsandboxedWorkflowRunner
from tests.unit.sdk_data.drivers import run


class _ForClients(perdure.client.Interceptor):
    pass


class _ForWorkers(perdure.worker.Interceptor):
    pass


class _ForBoth(perdure.client.Interceptor, perdure.worker.Interceptor):
    pass


class _Client:
    """As much of a client as a plugin looks at."""

    def __init__(self, interceptors: list[Any]) -> None:
        self.interceptors = interceptors

    def config(self, *, active_config: bool = False) -> Any:
        assert active_config
        return {"interceptors": self.interceptors}


CLIENTS, WORKERS, BOTH = _ForClients(), _ForWorkers(), _ForBoth()


def test_a_plugin_without_values_changes_nothing() -> None:
    plugin = SimplePlugin("none")
    config: Any = {"data_converter": DataConverter.default, "interceptors": [CLIENTS]}
    assert plugin.configure_client(dict(config)) == config  # type: ignore[arg-type]
    worker: Any = {"client": _Client([]), "workflows": [int], "interceptors": [WORKERS]}
    assert plugin.configure_worker(dict(worker)) == worker  # type: ignore[arg-type]
    assert plugin.name() == "none"


def test_values_replace_or_are_added() -> None:
    runner = UnsandboxedWorkflowRunner()
    plugin = SimplePlugin(
        "values",
        data_converter=pydantic_data_converter,
        activities=[print],
        nexus_service_handlers=["handler"],
        workflows=[str],
        workflow_runner=runner,
        workflow_failure_exception_types=[KeyError],
    )
    worker = cast(Any, plugin.configure_worker)(
        {"client": _Client([]), "workflows": [int], "activities": [len]}
    )
    assert worker["workflows"] == [int, str]
    assert worker["activities"] == [len, print]
    assert worker["nexus_service_handlers"] == ["handler"]
    assert worker["workflow_runner"] is runner
    assert worker["workflow_failure_exception_types"] == [KeyError]
    replayer = cast(Any, plugin.configure_replayer)({"workflows": [int]})
    assert replayer["data_converter"] is pydantic_data_converter
    assert "activities" not in replayer
    client = cast(Any, plugin.configure_client)({"data_converter": DataConverter.default})
    assert client["data_converter"] is pydantic_data_converter


def test_functions_see_what_was_there() -> None:
    plugin = SimplePlugin("functions", workflows=lambda so_far: [*(so_far or ()), str][::-1])
    worker = cast(Any, plugin.configure_worker)({"client": _Client([]), "workflows": [int]})
    assert worker["workflows"] == [str, int]


def test_each_gets_the_interceptors_of_its_kind_and_a_worker_none_twice() -> None:
    plugin = SimplePlugin("interceptors", interceptors=[CLIENTS, WORKERS, BOTH])
    client = cast(Any, plugin.configure_client)({"interceptors": []})
    assert client["interceptors"] == [CLIENTS, BOTH]
    worker = cast(Any, plugin.configure_worker)({"client": _Client(client["interceptors"])})
    assert worker["interceptors"] == [WORKERS]
    replayer = cast(Any, plugin.configure_replayer)({})
    assert replayer["interceptors"] == [WORKERS, BOTH]


def test_the_context_is_entered_while_something_runs() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def context() -> AsyncIterator[None]:
        steps.append("enter")
        yield
        steps.append("exit")

    async def run_worker(worker: Any) -> None:
        steps.append(worker)

    @asynccontextmanager
    async def run_replayer(replayer: Any, histories: Any) -> AsyncIterator[Any]:
        steps.append(replayer)
        yield histories

    async def both() -> None:
        plugin = SimplePlugin("context", run_context=context)
        await plugin.run_worker(cast(Any, "worker"), run_worker)
        async with plugin.run_replayer(cast(Any, "replayer"), cast(Any, "h"), run_replayer) as results:
            steps.append(cast(Any, results))

    run(both())
    assert steps == ["enter", "worker", "exit", "enter", "replayer", "h", "exit"]
