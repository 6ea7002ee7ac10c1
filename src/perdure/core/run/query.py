"""Questions to a workflow that wait for its next workflow task. Kept in memory only: a question whose asker or
worker is gone is asked again by the client, so nothing here is ever stored."""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.api.query.v1 import WorkflowQuery, WorkflowQueryResult
from perdure.core.errors import ResourceExhaustedError

_CAUSE_BUSY_WORKFLOW = 5
_SCOPE_NAMESPACE = 1


@dataclass(slots=True)
class QueryRegistry:
    """The buffered queries of one run.

    Attributes:
        waiting: asked, not yet handed to a worker, by query id.
        sent: handed out with the started workflow task.
    """

    waiting: dict[str, WorkflowQuery] = field(default_factory=dict)
    sent: dict[str, WorkflowQuery] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        """Whether any query waits or is out."""
        return bool(self.waiting or self.sent)

    def add(self, query_id: str, query: WorkflowQuery, limit: int) -> None:
        """Buffers a query, `limit` at most.

        Raises:
            ResourceExhaustedError: as many as allowed wait already.
        """
        if len(self.waiting) + len(self.sent) >= limit:
            raise ResourceExhaustedError(
                "consistent query buffer is full, this may be caused by too many queries and workflow not able to "
                "process query fast enough",
                _CAUSE_BUSY_WORKFLOW,
                _SCOPE_NAMESPACE,
            )
        self.waiting[query_id] = query

    def take(self) -> dict[str, WorkflowQuery]:
        """Hands the waiting queries out with a workflow task that starts now."""
        self.sent.update(self.waiting)
        self.waiting = {}
        return dict(self.sent)

    def answer(self, results: dict[str, WorkflowQueryResult]) -> dict[str, WorkflowQueryResult]:
        """Takes the answers that a completion carries; unknown ids are dropped.

        Returns:
            the answers of queries that were waiting for one.
        """
        answered = {query_id: result for query_id, result in results.items() if query_id in self.sent}
        for query_id in answered:
            del self.sent[query_id]
        return answered

    def put_back(self) -> None:
        """The task they were sent with ended without answers: they wait for the next one."""
        self.waiting = {**self.sent, **self.waiting}
        self.sent = {}

    def remove(self, query_id: str) -> None:
        """The asker gave up."""
        self.waiting.pop(query_id, None)
        self.sent.pop(query_id, None)
