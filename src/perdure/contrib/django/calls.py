"""Workflows started and signalled by a transaction: nothing happens unless it commits, nothing is lost once it has.

The requests are rows of the transaction (decision record 36). Here: writing and sending them. When the sweep runs is
the worker command's business.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.models import F, Model
from django.utils import timezone

from perdure.api.errordetails.v1 import NamespaceNotFoundFailure
from perdure.api.workflowservice.v1 import SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest
from perdure.client import Client
from perdure.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from perdure.contrib.django import bridge
from perdure.contrib.django.settings import PerdureSettings, perdure_settings
from perdure.converter import WorkflowSerializationContext
from perdure.service import RPCError, RPCStatusCode
from perdure.service._errors import detail_of, is_too_large
from perdure.workflow._definition import _Definition
from perdure.workflow._handlers import _SignalDefinition

if TYPE_CHECKING:
    from perdure.contrib.django.models import OutgoingCall

logger = logging.getLogger("perdure.django")

REFUSALS: Final = frozenset(
    {
        RPCStatusCode.INVALID_ARGUMENT,
        RPCStatusCode.NOT_FOUND,
        RPCStatusCode.ALREADY_EXISTS,
        RPCStatusCode.FAILED_PRECONDITION,
        RPCStatusCode.UNIMPLEMENTED,
    }
)
"""Answers that a repetition would not change."""

NOT_NOW: Final = frozenset(
    {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.UNAUTHENTICATED}
)
"""Answers that the next call would get as well, until somebody starts the server or puts the key right."""

SWEEP_BATCH: Final = 500
"""Rows that one sweep reads at most."""


def start_workflow_on_commit(
    workflow: str | Callable[..., Awaitable[Any]],
    *args: Any,
    id: str,
    task_queue: str = "",
    instance: Model | None = None,
    execution_timeout: timedelta | None = None,
    id_reuse_policy: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    id_conflict_policy: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.UNSPECIFIED,
    using: str | None = None,
) -> None:
    """Start a workflow if and when the transaction commits; outside of one, now.

    Args:
        workflow: Its run method, or its name.
        args: Its arguments.
        id: Of the workflow.
        task_queue: Where it runs; by default that of the settings.
        instance: The model instance it belongs to: the admin shows both together.
        execution_timeout: Of all its runs together.
        id_reuse_policy: Whether the id of a closed workflow may be used again.
        id_conflict_policy: What happens if a workflow with this id is running.
        using: The database whose transaction is meant; by default the one the tables are in.
    """
    from django.contrib.contenttypes.models import ContentType

    from perdure.contrib.django.models import OutgoingCall, WorkflowLink

    using = _database(using)
    given = perdure_settings()
    name = _Definition.get_name_and_result_type(workflow)[0]
    request = StartWorkflowExecutionRequest(namespace=given.namespace, workflow_id=id)
    request.workflow_type.name = name
    request.task_queue.name = task_queue or given.task_queue
    request.workflow_id_reuse_policy = int(id_reuse_policy)  # type: ignore[assignment]  # the same numbers
    request.workflow_id_conflict_policy = int(id_conflict_policy)  # type: ignore[assignment]  # the same numbers
    if execution_timeout is not None:
        request.workflow_execution_timeout.FromTimedelta(execution_timeout)
    _fill(request.input.payloads, args, id, given)
    with transaction.atomic(using=using):
        _write(OutgoingCall.Kind.START, id, name, request, using)
        if instance is not None:
            WorkflowLink.objects.using(using).create(
                workflow_id=id,
                workflow_type=name,
                namespace=given.namespace,
                content_type=ContentType.objects.db_manager(using).get_for_model(instance),
                object_id=str(instance.pk),
            )


def signal_workflow_on_commit(
    workflow_id: str, signal: str | Callable[..., Any], *args: Any, using: str | None = None
) -> None:
    """Signal a workflow if and when the transaction commits; outside of one, now.

    Args:
        workflow_id: Of the workflow; its newest run gets the signal.
        signal: The signal's method, or its name.
        args: Its arguments.
        using: The database whose transaction is meant; by default the one the tables are in.
    """
    from perdure.contrib.django.models import OutgoingCall

    using = _database(using)
    given = perdure_settings()
    name = _SignalDefinition.must_name_from_fn_or_str(signal)
    request = SignalWorkflowExecutionRequest(namespace=given.namespace, signal_name=name)
    request.workflow_execution.workflow_id = workflow_id
    _fill(request.input.payloads, args, workflow_id, given)
    _write(OutgoingCall.Kind.SIGNAL, workflow_id, name, request, using)


def _database(using: str | None) -> str:
    """The database that is meant: the tables are where its routers say, which need not be the default one."""
    from perdure.contrib.django.models import OutgoingCall

    return using or router.db_for_write(OutgoingCall)


def _fill(payloads: Any, args: Sequence[Any], workflow_id: str, given: PerdureSettings) -> None:
    if args:
        context = WorkflowSerializationContext(namespace=given.namespace, workflow_id=workflow_id)
        payloads.extend(bridge.compute(given.converter().with_context(context).encode(args)))


def _write(kind: str, workflow_id: str, name: str, request: Any, using: str) -> None:
    from perdure.contrib.django.models import OutgoingCall

    with transaction.atomic(using=using):
        call = OutgoingCall(kind=kind, workflow_id=workflow_id, name=name)
        request.request_id = str(call.request_id)
        call.request = request.SerializeToString()
        call.save(using=using)
        transaction.on_commit(lambda: _send_at_once(workflow_id, using), using=using)


def _send_at_once(workflow_id: str, using: str) -> None:
    """After the commit: what goes wrong now is not the view's business, the sweep tries again."""
    try:
        send_waiting(workflow_id=workflow_id, using=using)
    except Exception as error:  # the transaction is durable, and the row says what is to be done
        logger.warning(
            "A call to %s could not be sent now and will be sent by a worker (%s)", workflow_id, error
        )


def send_waiting(
    *, workflow_id: str | None = None, older_than_s: float = 0.0, using: str | None = None
) -> int:
    """Send calls that wait, the oldest first; one that was refused holds back the later ones of its workflow.

    Args:
        workflow_id: Of this workflow only.
        older_than_s: Only those that have waited for so long, seconds.
        using: The database that the rows are in; by default the one the tables are in.

    Returns:
        How many were sent.

    Raises:
        ClientConnectError: No server answers; the rows wait on.
        RPCError: The server cannot take some of them now; those wait on, and calls of other workflows were sent.
        TimeoutError: No answer in time; what was sent and not answered is sent again, and acts once.
    """
    from perdure.contrib.django.models import OutgoingCall

    rows = OutgoingCall.objects.using(_database(using))
    if workflow_id is not None:
        rows = rows.filter(workflow_id=workflow_id)
    refused = rows.filter(failed_at__isnull=False).values("workflow_id")
    # Left out here and not below, or calls that are held back would fill the batch.
    waiting = rows.filter(failed_at__isnull=True).exclude(workflow_id__in=refused)
    if older_than_s:
        waiting = waiting.filter(created_at__lte=timezone.now() - timedelta(seconds=older_than_s))
    sent, held, first_error = 0, set[str](), None
    for call in waiting.order_by("pk")[:SWEEP_BATCH]:
        if call.workflow_id in held:
            continue
        try:
            is_sent = _send(call)
        except RPCError as error:
            if error.status in NOT_NOW:
                raise
            # What is wrong with this one says nothing of the calls of others.
            is_sent, first_error = False, first_error or error
        if is_sent:
            sent += 1
        else:
            held.add(call.workflow_id)
    if first_error is not None:
        raise first_error
    return sent


def is_outbox(alias: str) -> bool:
    """Whether the transactions of a database may have written calls: it has the table."""
    from perdure.contrib.django.models import OutgoingCall

    if len(list(connections)) == 1:
        return True
    return OutgoingCall._meta.db_table in connections[alias].introspection.table_names()


def _send(call: OutgoingCall) -> bool:
    """Sends one call unless another process is at it; what holds it back is written into its row."""
    using = call._state.db or DEFAULT_DB_ALIAS
    if not connections[using].features.has_select_for_update_skip_locked:
        # SQLite would lock the whole file for as long as the server takes. What two send at a time acts once.
        return _send_alone(call)
    failure: Exception
    with transaction.atomic(using=using):
        mine = type(call).objects.using(using).filter(pk=call.pk).select_for_update(skip_locked=True)
        if not list(mine.values_list("pk")):
            return False
        try:
            return _send_alone(call)
        except (RPCError, RuntimeError, TimeoutError) as error:
            failure = error  # what was written into the row is to be kept
    raise failure


def _misses_namespace(error: RPCError) -> bool:
    """It is not there yet, or misspelt in the settings: nothing that is wrong with a call."""
    return detail_of(error, NamespaceNotFoundFailure) is not None


def _send_alone(call: OutgoingCall) -> bool:
    """Sends one call and deletes its row; a refusal is written into the row. Returns whether it was sent."""
    rows = type(call).objects.using(call._state.db).filter(pk=call.pk)
    data, kind = bytes(call.request), call.kind

    async def send(client: Client) -> None:
        service = client.workflow_service
        if kind == call.Kind.START:
            await service.start_workflow_execution(StartWorkflowExecutionRequest.FromString(data))
        else:
            await service.signal_workflow_execution(SignalWorkflowExecutionRequest.FromString(data))

    try:
        bridge.run(send, perdure_settings().deliver_timeout_s)
    except RPCError as error:
        is_refused = error.status in REFUSALS or is_too_large(error)
        if not is_refused or _misses_namespace(error):
            rows.update(tries=F("tries") + 1, error=str(error))
            raise
        logger.error("%s was refused: %s", call, error)
        rows.update(tries=F("tries") + 1, error=f"{error.status.name}: {error}", failed_at=timezone.now())
        return False
    except (RuntimeError, TimeoutError) as error:  # of the connection, among them ClientConnectError
        rows.update(tries=F("tries") + 1, error=str(error))
        raise
    rows.delete()
    return True
