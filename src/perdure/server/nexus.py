"""Everything of Nexus on one engine, put together."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.server.callback_addresses import AddressRule
from perdure.server.engine.completions import Completions
from perdure.server.engine.engine import Engine
from perdure.server.engine.histories import Histories
from perdure.server.engine.nexus_calls import NexusCalls
from perdure.server.engine.nexus_requests import NexusRequests, Remote
from perdure.server.engine.nexus_tasks import NexusTasks
from perdure.server.nexus_endpoints import NexusEndpoints
from perdure.server.nexus_http import NexusHttp


class Nexus:
    """The parts of Nexus.

    Args:
        engine: the runs.
        remote: reaches handlers and callbacks by HTTP; None where that is not possible.
        callback_rules: addresses that completion callbacks may have.
        records_cancellations: events say what came of requests to cancel operations.

    Attributes:
        endpoints: the registry; loaded by whoever starts the server.
        tasks: requests to handlers that wait for answers.
        completions: tells runs how their operations ended.
        requests: asks handlers, wherever they are.
        calls: makes the requests that runs owe.
        http: serves the protocol to callers outside.
    """

    def __init__(
        self,
        engine: Engine,
        remote: Remote | None = None,
        callback_rules: Sequence[AddressRule] = (),
        *,
        records_cancellations: bool = True,
    ) -> None:
        histories = Histories(engine)
        self.callback_rules = callback_rules
        self.endpoints = NexusEndpoints(engine.store)
        self.tasks = NexusTasks(engine)
        self.completions = Completions(engine, histories)
        self.requests = NexusRequests(engine, self.tasks, self.endpoints, remote)
        self.calls = NexusCalls(engine, histories, self.requests, records_cancellations=records_cancellations)
        self.http = NexusHttp(engine, self.tasks, self.endpoints, self.completions)
        engine.requests_under_way = self.calls.under_way
        engine.operation_runs.begin = self.calls.begin
        engine.before_stop.append(self.calls.stop)
