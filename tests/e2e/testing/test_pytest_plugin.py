"""The fixtures, used as a person would: a folder with tests, and pytest run on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import asyncio
from datetime import timedelta

import pytest
from perdure import activity, workflow
from perdure.client import Client
from perdure.common import SearchAttributeKey
from perdure.service import RPCError

SHADE = SearchAttributeKey.for_keyword("Shade")


@activity.defn
async def compose(name: str) -> str:
    return f"Hello, {name}!"


@workflow.defn
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        await asyncio.sleep(30 * 86_400)
        return await workflow.execute_activity(compose, name, start_to_close_timeout=timedelta(seconds=5))


def test_a_month_passes_at_once(perdure_env, perdure_client, perdure_worker):
    async def scenario():
        before = await perdure_env.get_current_time()
        async with perdure_worker(workflows=[Greeting], activities=[compose]) as worker:
            result = await perdure_client.execute_workflow(
                Greeting.run, "Ada", id="greeting", task_queue=worker.task_queue
            )
        assert result == "Hello, Ada!"
        assert await perdure_env.get_current_time() - before >= timedelta(days=30)
    asyncio.run(scenario())


@pytest.mark.parametrize("number", range(2))
def test_each_test_has_its_own_server(perdure_client, number):
    async def scenario():
        await perdure_client.start_workflow("any", id="same-id", task_queue="none")
    asyncio.run(scenario())


@pytest.mark.perdure(time_skipping=False, namespace="shop", search_attributes=[SHADE])
def test_options_of_the_marker(perdure_env, perdure_client):
    assert not perdure_env.supports_time_skipping
    assert perdure_client.namespace == "shop"
    loop = asyncio.new_event_loop()
    start = perdure_client.start_workflow(
        "any", id="a", task_queue="none", search_attributes={"Shade": ["blue"]}
    )
    loop.run_until_complete(start)
    # The loop is neither run nor closed when the fixture ends: it is not its business.


def test_a_server_that_nobody_calls_is_not_started(perdure_env):
    assert perdure_env.supports_time_skipping
"""

WRONG = """
import pytest

@pytest.mark.perdure(time_skiping=False)
def test_wrong_argument(perdure_env):
    pass
"""


def _pytest(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60, check=False)


def test_the_fixtures_work_in_plain_tests(tmp_path: Path) -> None:
    """No plugin for asynchronous tests is needed; each test has its own server; the marker changes it."""
    result = _pytest(tmp_path, TESTS)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "5 passed" in result.stdout


def test_a_wrong_argument_of_the_marker_is_said(tmp_path: Path) -> None:
    """A typing error is no silent default."""
    result = _pytest(tmp_path, WRONG)
    assert result.returncode != 0
    assert "time_skiping" in result.stdout


BROKEN_PLUGIN = """
import perdure.client
import pytest

class Broken(perdure.client.Plugin):
    def configure_client(self, config):
        raise TypeError("of the plugin's own")

    async def connect_service_client(self, config, next):
        return await next(config)

@pytest.mark.perdure(plugins=[Broken()])
def test_it(perdure_client):
    pass

@pytest.mark.perdure(search_attributes=["Shade"])
def test_a_name_is_no_key(perdure_client):
    pass
"""


def test_an_error_of_a_plugin_is_not_the_marker_s(tmp_path: Path) -> None:
    """Who looks for an argument that is not there loses time; a search attribute without a type is the marker's."""
    result = _pytest(tmp_path, BROKEN_PLUGIN)
    assert "TypeError: of the plugin's own" in result.stdout
    assert "does not know" not in result.stdout
    assert "The marker perdure: search_attributes: 'Shade' must be a SearchAttributeKey" in result.stdout


def test_markers_are_listed(tmp_path: Path) -> None:
    """`pytest --markers` tells what the marker takes."""
    result = _pytest(tmp_path, WRONG, "--markers")
    assert "@pytest.mark.perdure(time_skipping=True" in result.stdout
