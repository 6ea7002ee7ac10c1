"""Fixtures for pytest: a fresh environment, a client of it and workers, for each test.

    async def test_greeting(perdure_client, perdure_worker):
        async with perdure_worker(workflows=[Greeting], activities=[compose]) as worker:
            result = await perdure_client.execute_workflow(
                Greeting.run, "Ada", id="greeting", task_queue=worker.task_queue
            )
        assert result == "Hello, Ada!"

The fixtures are not asynchronous: the server starts with the first call, on the event loop that the test runs on. So
they work with pytest-asyncio, with anyio (its asyncio backend), and in plain tests that call `asyncio.run` (once), and
need none of these.

Time skips, unless the test is marked with `@pytest.mark.perdure(time_skipping=False)`. Other arguments of the marker:
`namespace`, `search_attributes` (keys to define), `data_converter`, `interceptors`, `plugins` (of the client). To have
other defaults for a folder of tests, override the fixture `perdure_options` in its conftest.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.testing import WorkflowEnvironment
    from perdure.worker import Worker

_MARKER = "perdure(time_skipping=True, namespace='default', search_attributes=(), **client_options)"


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line("markers", f"{_MARKER}: options of the Perdure server and client of a test.")


@pytest.fixture
def perdure_options() -> Mapping[str, Any]:
    """Arguments of the marker `perdure` for tests that do not give them; override it to change the defaults."""
    return {}


@pytest.fixture
def perdure_env(
    request: pytest.FixtureRequest, perdure_options: Mapping[str, Any]
) -> Iterator[WorkflowEnvironment]:
    """A test environment with a server of its own in memory, which starts with the first call."""
    from perdure.server.config import ServerConfig
    from perdure.testing._options import ClientOptions, typed_attributes
    from perdure.testing._workflow import LazyEnvironment

    options = dict(perdure_options)
    for marker in reversed(list(request.node.iter_markers("perdure"))):
        if marker.args:
            raise pytest.UsageError(f"The marker perdure takes keyword arguments only: {_MARKER}")
        options.update(marker.kwargs)
    try:
        attributes = typed_attributes(options.pop("search_attributes", ()))
    except TypeError as error:
        raise pytest.UsageError(f"The marker perdure: {error}") from error
    config = ServerConfig(time_skipping=options.pop("time_skipping", True), search_attributes=attributes)
    unknown = options.keys() - ClientOptions.__annotations__.keys() - {"namespace"}
    if unknown:
        raise pytest.UsageError(
            f"The marker perdure has an argument that it does not know: {', '.join(sorted(unknown))}. {_MARKER}"
        )
    env = LazyEnvironment.make(config, **options)
    try:
        yield env
    finally:
        env.end()


@pytest.fixture
def perdure_client(perdure_env: WorkflowEnvironment) -> Client:
    """The client of `perdure_env`."""
    return perdure_env.client


@pytest.fixture
def perdure_worker(perdure_env: WorkflowEnvironment) -> Callable[..., Worker]:
    """Makes workers of `perdure_env`: takes the arguments of `Worker` without the client.

    Without `task_queue` each gets a task queue of its own. Use what it returns with `async with`.
    """
    from perdure.worker import Worker

    def make(*, task_queue: str | None = None, **options: Any) -> Worker:
        return Worker(perdure_env.client, task_queue=task_queue or f"test-{uuid.uuid4()}", **options)

    return make
