"""What a database with many writers adds to the outbox, under Django's test runner on PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

from django.db import IntegrityError, OperationalError, connection, transaction
from django.test import TransactionTestCase, override_settings

from examples.django_shop.orders.models import Order
from examples.django_shop.orders.workflows import OrderWorkflow
from perdure.api.enums.v1 import EventType
from perdure.contrib.django import bridge, calls, run, signal_workflow_on_commit, start_workflow_on_commit
from perdure.contrib.django.connections import with_connections
from perdure.contrib.django.models import OutgoingCall
from perdure.contrib.django.worker import sweep, working
from perdure.service import RPCError
from tests.e2e.contrib_django.cases import MEMORY, NOWHERE, WAIT_S, _events

ORDERS = 6
SWEEPERS = 4
_OTHERS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def _connections_of_others() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(_OTHERS)
        return [pid for (pid,) in cursor.fetchall()]


def _wait_until_alone() -> None:
    """A connection is gone on the server a moment after it was closed here; the server itself waits in between."""
    for _ in range(600):
        if not _connections_of_others():
            return
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.05)")
    raise AssertionError(f"connections were left open: {_connections_of_others()}")


class PostgresTests(TransactionTestCase):
    """Locks, failed transactions, and connections that end."""

    def setUp(self) -> None:
        """Each test has an engine of its own."""
        self.addCleanup(bridge.stop)

    def _write_while_the_server_is_away(self) -> Order:
        order = Order.objects.create(item="tea", amount_cents=1)
        with override_settings(PERDURE=NOWHERE), self.assertLogs("perdure.django", "WARNING"):
            start_workflow_on_commit(OrderWorkflow.run, order.pk, id=order.workflow_id)
            signal_workflow_on_commit(order.workflow_id, OrderWorkflow.delivered)
        bridge.stop()
        return order

    def test_sweepers_side_by_side_send_each_call_once_and_in_order(self) -> None:
        """Workers of several machines sweep the same rows at the same time."""
        orders = [self._write_while_the_server_is_away() for _ in range(ORDERS)]
        sent: list[int] = []
        send, begin = calls._send_alone, threading.Barrier(SWEEPERS)

        def counted(call: OutgoingCall) -> bool:
            sent.append(call.pk)
            return send(call)

        def sweep_all() -> None:
            begin.wait(WAIT_S)
            while OutgoingCall.objects.exists():
                calls.send_waiting()

        with override_settings(PERDURE=MEMORY), patch.object(calls, "_send_alone", counted):
            with ThreadPoolExecutor(SWEEPERS) as threads:
                for done in [threads.submit(with_connections(sweep_all)) for _ in range(SWEEPERS)]:
                    done.result(WAIT_S)
            for order in orders:
                events = _events(order.workflow_id)
                assert events[0] == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
                assert events.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED) == 1
        assert sorted(sent) == sorted(set(sent))
        assert len(sent) == 2 * ORDERS
        _wait_until_alone()

    def test_a_call_that_is_being_sent_holds_back_its_workflow_only(self) -> None:
        """Nobody waits for the process that has it, and nobody overtakes it."""
        first, second = self._write_while_the_server_is_away(), self._write_while_the_server_is_away()
        with override_settings(PERDURE=MEMORY), ThreadPoolExecutor(1) as other:
            with transaction.atomic():
                rows = OutgoingCall.objects.filter(workflow_id=first.workflow_id).order_by("pk")
                assert list(rows.select_for_update().values_list("pk"))
                assert other.submit(with_connections(calls.send_waiting)).result(WAIT_S) == 2
            assert set(OutgoingCall.objects.values_list("workflow_id", flat=True)) == {first.workflow_id}
            assert _events(second.workflow_id).count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED) == 1
            assert calls.send_waiting() == 2

    def test_why_a_call_was_refused_is_kept(self) -> None:
        """Although the lock's transaction ends with it."""
        with override_settings(PERDURE=NOWHERE), self.assertLogs("perdure.django", "WARNING"):
            signal_workflow_on_commit("nobody", OrderWorkflow.delivered)
        bridge.stop()
        assert OutgoingCall.objects.get().tries == 1
        with override_settings(PERDURE=MEMORY), self.assertLogs("perdure.django", "ERROR"):
            assert calls.send_waiting() == 0
        call = OutgoingCall.objects.get()
        assert (call.tries, call.failed_at is not None) == (2, True)

    def test_a_transaction_that_the_database_refuses_starts_nothing(self) -> None:
        """After an error PostgreSQL takes nothing more in that transaction, and Django rolls it back."""
        order = Order.objects.create(item="tea", amount_cents=1)

        def twice() -> None:
            with transaction.atomic():
                start_workflow_on_commit(OrderWorkflow.run, order.pk, id=order.workflow_id)
                Order.objects.create(pk=order.pk, item="tea", amount_cents=1)

        with override_settings(PERDURE=MEMORY):
            self.assertRaises(IntegrityError, twice)
            assert not OutgoingCall.objects.exists()
            with self.assertRaisesMessage(RPCError, ""):
                _events(order.workflow_id)

    def test_threads_of_activities_leave_no_connection_behind(self) -> None:
        """What ran in the worker's threads has closed what it used."""
        order = Order.objects.create(item="tea", amount_cents=1)
        with override_settings(PERDURE=MEMORY), working():
            start_workflow_on_commit(OrderWorkflow.run, order.pk, id=order.workflow_id)
            signal_workflow_on_commit(order.workflow_id, OrderWorkflow.delivered)
            run(lambda client: client.get_workflow_handle(order.workflow_id).result(), WAIT_S)
            _wait_until_alone()

    def test_a_sweep_whose_connection_was_ended_finds_a_new_one(self) -> None:
        """The database was started again: the next round works, in the same thread."""
        order = self._write_while_the_server_is_away()
        with override_settings(PERDURE=MEMORY), ThreadPoolExecutor(1) as thread:

            def lose_connection() -> None:
                with connection.cursor() as cursor, self.assertRaises(OperationalError):
                    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

            thread.submit(lose_connection).result(WAIT_S)
            thread.submit(with_connections(sweep), 0.0).result(WAIT_S)
            assert not OutgoingCall.objects.exists()
            assert _events(order.workflow_id)[0] == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
        _wait_until_alone()
