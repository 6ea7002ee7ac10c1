"""The shop's front end: `python -m examples.order.web`. It keeps nothing: every page is what the server knows.

It starts workflows, signals them and asks them; stop and start it whenever you like. A page never waits long: when the
server is away it says so, and when no worker runs it shows what is known without one.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from examples.order.models import PRICES_CENTS, TASK_QUEUE, WORKFLOW_TYPE, Order, OrderResult
from examples.order.workflows import OrderWorkflow
from perdure.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
)
from perdure.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from perdure.exceptions import WorkflowAlreadyStartedError
from perdure.service import ClientConnectError, RetryConfig, RPCError, RPCStatusCode

TEMPLATES: Final = Jinja2Templates(Path(__file__).with_name("templates"))
CALL_LIMIT: Final = timedelta(seconds=10)
"""How long the server may take for anything."""
UNREACHABLE_LIMIT_MS: Final = 1_000
"""How long a server that does not answer at all is tried again."""
QUERY_LIMIT: Final = timedelta(seconds=2)
"""How long a worker may take to answer `getStatus`."""
MOST_FORM_BYTES: Final = 4_000
MOST_NAME_CHARACTERS: Final = 80
MOST_ORDERS_SHOWN: Final = 50
NO_WORKER: Final = "no worker answers; the order is safe and goes on when one does"
UNANSWERED: Final = (
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.FAILED_PRECONDITION,
    RPCStatusCode.RESOURCE_EXHAUSTED,  # others ask the same and wait for an answer already
)
"""How a query ends that no worker answers."""
ENDED: Final = {
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.CANCELED: "cancelled",
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed out",
}
"""How an order ends that has no result."""


@dataclass(frozen=True)
class Form:
    """The order form as it was filled in.

    Attributes:
        token: Made with each form that is shown. With the contents it decides the order's id: a form that is sent
            twice, by a double click or after an error, is one order; a form that was changed is another one.
    """

    token: str
    customer: str = ""
    item: str = ""

    @property
    def order_id(self) -> str:
        """The id of the order and of its workflow."""
        parts = "\n".join((self.token, self.customer, self.item))
        return f"order-{hashlib.sha256(parts.encode()).hexdigest()[:10]}"

    @property
    def mistake(self) -> str:
        """What is wrong with it, in words; empty if nothing is."""
        if re.fullmatch(r"[0-9a-f]{16}", self.token) is None:
            return "This form is not one of ours; please fill in this one."
        if not 0 < len(self.customer) <= MOST_NAME_CHARACTERS or not self.customer.isprintable():
            return f"Please give your name, in at most {MOST_NAME_CHARACTERS} characters."
        if self.item not in PRICES_CENTS:
            return "Please choose what you would like."
        return ""


def new_form() -> Form:
    """An empty form."""
    return Form(secrets.token_hex(8))


class RefusedError(Exception):
    """The request is answered with an error page.

    Args:
        status: Its HTTP status.
        message: What it says.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _client(request: Request) -> Client:
    client: Client = request.app.state.client
    return client


def _page(request: Request, name: str, shown: Mapping[str, Any], status: int = 200) -> Response:
    context = {"prices": PRICES_CENTS, "ui": request.app.state.ui, **shown}
    return TEMPLATES.TemplateResponse(request, name, context, status, headers={"Cache-Control": "no-store"})


async def _read_form(request: Request) -> Form:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_FORM_BYTES:
            raise RefusedError(413, "This form is too long.")
    fields = dict(parse_qsl(body.decode(errors="replace")))
    return Form(fields.get("token", ""), fields.get("customer", "").strip(), fields.get("item", ""))


async def home(request: Request) -> Response:
    """The form, and the latest orders."""
    return await _home(request, new_form())


async def _home(request: Request, form: Form, problem: str = "", status: int = 200) -> Response:
    orders = []
    listed = _client(request).list_workflows(
        f"WorkflowType = '{WORKFLOW_TYPE}'", limit=MOST_ORDERS_SHOWN, rpc_timeout=CALL_LIMIT
    )
    async for run in listed:
        orders.append({"id": run.id, "status": _outline(run), **await _memo(run)})
    return _page(request, "home.html", {"form": form, "problem": problem, "orders": orders}, status)


def _outline(run: WorkflowExecution) -> str:
    if run.status == WorkflowExecutionStatus.RUNNING:
        return "under way"
    return ENDED.get(run.status, "finished") if run.status is not None else ""


async def _memo(run: WorkflowExecution) -> Mapping[str, str]:
    memo = await run.memo()
    return {"customer": str(memo.get("customer", "")), "item": str(memo.get("item", ""))}


async def place(request: Request) -> Response:
    """Places an order: starts its workflow, unless the same form did so before."""
    form = await _read_form(request)
    if form.mistake:
        renewed = replace(form, token=new_form().token)
        return await _home(request, renewed, form.mistake, 400)
    order = Order(form.order_id, form.customer, form.item, PRICES_CENTS[form.item])
    try:
        await _client(request).start_workflow(
            OrderWorkflow.run,
            order,
            id=order.order_id,
            task_queue=TASK_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            memo={"customer": order.customer, "item": order.item},
            static_summary=f"{order.item} for {order.customer}",
            rpc_timeout=CALL_LIMIT,
        )
    except WorkflowAlreadyStartedError:
        pass  # the same form, sent again after the order was finished
    except (RPCError, ClientConnectError) as error:
        said = _unreachable(error)
        if said is None:
            raise
        # The order may have arrived although the answer did not. The form keeps its token, so sending it again is safe.
        problem = f"{said} Send the form again in a moment: it makes one order, however often you send it."
        return _page(request, "home.html", {"form": form, "problem": problem, "orders": None}, 503)
    return RedirectResponse(f"/orders/{order.order_id}", 303)


async def _find(request: Request) -> tuple[WorkflowHandle[OrderWorkflow, OrderResult], WorkflowExecution]:
    """The order that the address names; raises RefusedError if there is none."""
    order_id = request.path_params["order_id"]
    handle = _client(request).get_workflow_handle_for(OrderWorkflow.run, order_id)
    try:
        run = await handle.describe(rpc_timeout=CALL_LIMIT)
    except RPCError as error:
        if error.status not in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
            raise
        raise RefusedError(404, "There is no such order.") from error
    if run.workflow_type != WORKFLOW_TYPE:
        raise RefusedError(404, "There is no such order.")
    return handle, run


async def show(request: Request) -> Response:
    """One order: how it stands, asked from the workflow itself while it runs. Refreshes until the order has ended."""
    handle, run = await _find(request)
    is_open = run.status == WorkflowExecutionStatus.RUNNING
    status = _outline(run)
    if is_open:
        status = await _ask(handle)
    elif run.status == WorkflowExecutionStatus.COMPLETED:
        # Its result is in the history: no worker is needed to read it.
        status = (await handle.result(rpc_timeout=CALL_LIMIT)).status
    shown = {"order_id": handle.id, "status": status, "is_open": is_open, **await _memo(run)}
    return _page(request, "order.html", shown)


async def _ask(handle: WorkflowHandle[OrderWorkflow, OrderResult]) -> str:
    """What `getStatus` answers, or why it does not."""
    try:
        return await handle.query(OrderWorkflow.get_status, rpc_timeout=QUERY_LIMIT)
    except WorkflowQueryFailedError as error:
        return f"the order cannot say how it stands ({error})"
    except RPCError as error:
        if error.status not in UNANSWERED:
            raise
        return NO_WORKER


async def deliver(request: Request) -> Response:
    """The courier handed over the parcel: signals the workflow. Saying it again changes nothing."""
    handle, _ = await _find(request)
    try:
        await handle.signal(OrderWorkflow.delivered, rpc_timeout=CALL_LIMIT)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        # The order ended before: it was delivered already.
    return RedirectResponse(f"/orders/{handle.id}", 303)


def _unreachable(error: RPCError | ClientConnectError) -> str | None:
    """What to say if the server did not answer; None if it did."""
    if isinstance(error, RPCError) and error.status not in (
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
    ):
        return None
    return "The order server cannot be reached at the moment. What was ordered is safe."


async def _on_refused(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RefusedError) else 500
    return _page(request, "problem.html", {"message": str(error)}, status)


async def _on_server_error(request: Request, error: Exception) -> Response:
    said = _unreachable(error) if isinstance(error, RPCError | ClientConnectError) else None
    if said is None:
        raise error
    return _page(request, "problem.html", {"message": said, "is_temporary": request.method == "GET"}, 503)


def make_app(address: str, ui: str) -> Starlette:
    """The front end as an ASGI application.

    Args:
        address: The server's `host:port`; it need not run yet.
        ui: Where Perdure's web UI is, for links.
    """

    @asynccontextmanager
    async def connected(app: Starlette) -> AsyncIterator[None]:
        retries = RetryConfig(max_elapsed_time_millis=UNREACHABLE_LIMIT_MS)
        app.state.client = await Client.connect(address, lazy=True, retry_config=retries)
        app.state.ui = ui.rstrip("/")
        async with app.state.client:
            yield

    return Starlette(
        routes=[
            Route("/", home),
            Route("/orders", place, methods=["POST"]),
            Route("/orders/{order_id}", show),
            Route("/orders/{order_id}/delivered", deliver, methods=["POST"]),
        ],
        exception_handlers={
            RefusedError: _on_refused,
            RPCError: _on_server_error,
            ClientConnectError: _on_server_error,
        },
        lifespan=connected,
    )


def main() -> None:
    """Read the command line and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.order.web", description="front end of the order example"
    )
    parser.add_argument("--address", default="127.0.0.1:7233", help="the server's host:port")
    parser.add_argument("--port", type=int, default=8000, help="where to listen; 0 takes a free port")
    parser.add_argument("--ui", default="http://localhost:8233", help="where the server's web UI is")
    given = parser.parse_args()
    config = uvicorn.Config(make_app(given.address, given.ui), "127.0.0.1", given.port, log_level="warning")
    listening = config.bind_socket()
    listening.listen()  # whoever opens the page from here on waits until it is served
    print(f"The shop is open: http://localhost:{listening.getsockname()[1]} (Ctrl-C closes it)", flush=True)
    try:
        asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))
    except KeyboardInterrupt:
        pass  # the way it is stopped


if __name__ == "__main__":
    main()
