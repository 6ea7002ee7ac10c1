"""What a page asks of the server does not grow with the runs or events there are; their cost, the store's tests say."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pytest

from perdure.api.enums.v1 import EventType
from perdure.ui.config import DEFAULT_PAGE_ROWS, TIMELINE_EVENTS
from tests.ui.test_app import Server, get

EVENTS: Final = 50_000
RUNS: Final = 1_000_000
RUN: Final = "/namespaces/default/workflows/order/run"


class Large(Server):
    """Many runs, one of them with a long history; pages are as large as a request allows, and never end."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.items = 0

    async def _rpc_call(self, rpc: str, req: Any, resp_type: Any, **more: Any) -> Any:
        answer = await super()._rpc_call(rpc, req, resp_type, **more)
        self.calls[rpc] += 1
        if rpc == "describe_workflow_execution":
            answer.workflow_execution_info.history_length = EVENTS
        elif rpc == "count_workflow_executions":
            answer.count = RUNS
        elif rpc == "list_workflow_executions":
            self._fill(answer.executions, req.page_size, answer)
        elif rpc.startswith("get_workflow_execution_history"):
            self._fill_history(req, answer, is_reverse=rpc.endswith("reverse"))
        return answer

    def _fill(self, items: Any, size: int, answer: Any) -> None:
        assert 0 < size <= 1_000, "a page without a limit of its own is as long as the server likes"
        for _ in range(size):
            items.add()
        self.items += size
        answer.next_page_token = b"more"

    def _fill_history(self, req: Any, answer: Any, *, is_reverse: bool) -> None:
        done = int(req.next_page_token or b"0")
        size = min(req.maximum_page_size, EVENTS - done)
        self._fill(answer.history.events, size, answer)
        for place, event in enumerate(answer.history.events):
            event.event_id = EVENTS - done - place if is_reverse else done + place + 1
            event.event_type = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
        answer.next_page_token = b"%d" % (done + size) if done + size < EVENTS else b""


@pytest.mark.parametrize(
    ("path", "most_calls", "most_items"),
    [
        ("/namespaces/default/workflows", 2, DEFAULT_PAGE_ROWS),
        ("/namespaces/default/workflows?query=ExecutionStatus='Completed'&page=bW9yZQ", 2, DEFAULT_PAGE_ROWS),
        (f"{RUN}/history", 4, 256),
        (f"{RUN}/history?order=newest&mode=compact", 4, 256),
        (f"{RUN}/history?event=200", 4, 1_000),
        (f"{RUN}/history?event=49900", 4, 1_000),
        (f"{RUN}/history?search=nothing", 80, 20_256),
        (RUN, 24, TIMELINE_EVENTS + 512),
        (f"{RUN}?part=first", 24, TIMELINE_EVENTS + 512),
        (f"{RUN}/queries", 4, 0),
        (f"{RUN}/workers", 6, 0),
    ],
)
def test_a_page_reads_no_more_of_much(path: str, most_calls: int, most_items: int) -> None:
    """Calls to the server, and rows or events that it sends."""
    server = Large()
    assert get(path, server).status == 200
    assert sum(server.calls.values()) <= most_calls, server.calls
    assert server.items <= most_items
