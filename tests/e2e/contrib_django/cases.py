"""The outbox, the settings and the commands of perdure.contrib.django, under Django's test runner."""

from __future__ import annotations

import io
import threading
from typing import Any
from unittest.mock import patch

from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, close_old_connections
from django.test import SimpleTestCase, TransactionTestCase, override_settings
from django.utils import timezone

from examples.django_shop.orders.models import Order
from examples.django_shop.orders.workflows import OrderWorkflow
from perdure.api.enums.v1 import EventType
from perdure.contrib.django import bridge, calls, run, signal_workflow_on_commit, start_workflow_on_commit
from perdure.contrib.django.apps import check_settings
from perdure.contrib.django.models import OutgoingCall, WorkflowLink
from perdure.contrib.django.settings import perdure_settings
from perdure.contrib.django.worker import working
from perdure.service import ClientConnectError, RPCError, RPCStatusCode

WAIT_S = 30
MEMORY = {"ADDRESS": "sqlite://", "TASK_QUEUE": "shop", "DELIVER_TIMEOUT_S": 20.0}
NOWHERE = {"ADDRESS": "127.0.0.1:1", "TASK_QUEUE": "shop", "DELIVER_TIMEOUT_S": 20.0}


def _events(workflow_id: str) -> list[int]:
    async def fetch(client: Any) -> list[int]:
        handle = client.get_workflow_handle(workflow_id)
        return [event.event_type async for event in handle.fetch_history_events()]

    return run(fetch, WAIT_S)


class OutboxTests(TransactionTestCase):
    """What was committed reaches the server, once and in order."""

    def setUp(self) -> None:
        """Each test has an engine of its own."""
        self.addCleanup(bridge.stop)

    def _write_while_the_server_is_away(self) -> Order:
        order = Order.objects.create(item="tea", amount_cents=1)
        with override_settings(PERDURE=NOWHERE), self.assertLogs("perdure.django", "WARNING"):
            start_workflow_on_commit(OrderWorkflow.run, order.pk, id=order.workflow_id, instance=order)
            signal_workflow_on_commit(order.workflow_id, OrderWorkflow.delivered)
        bridge.stop()
        return order

    def test_what_could_not_be_sent_is_sent_later_in_order(self) -> None:
        """The server was away when the transactions committed."""
        order = self._write_while_the_server_is_away()
        assert [call.kind for call in OutgoingCall.objects.all()] == ["start", "signal"]
        assert OutgoingCall.objects.get(kind="start").tries > 0
        with override_settings(PERDURE=MEMORY), working():
            assert calls.send_waiting() == 2
            result = run(lambda client: client.get_workflow_handle(order.workflow_id).result(), WAIT_S)
        assert result == f"receipt-{order.pk}"
        assert not OutgoingCall.objects.exists()

    def test_the_sweep_leaves_young_calls_to_the_process_that_wrote_them(self) -> None:
        """It may be sending them right now."""
        self._write_while_the_server_is_away()
        with override_settings(PERDURE=MEMORY):
            assert calls.send_waiting(older_than_s=3600) == 0
            assert OutgoingCall.objects.count() == 2

    def test_a_call_sent_twice_acts_once(self) -> None:
        """The process died after the server had it and before its row was deleted."""
        order = self._write_while_the_server_is_away()
        again = [
            OutgoingCall(
                request_id=call.request_id,
                kind=call.kind,
                workflow_id=call.workflow_id,
                name=call.name,
                request=bytes(call.request),
            )
            for call in OutgoingCall.objects.order_by("pk")
        ]
        with override_settings(PERDURE=MEMORY):
            assert calls.send_waiting() == 2
            for call in again:
                call.save()
            assert calls.send_waiting() == 2
            events = _events(order.workflow_id)
        assert events.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED) == 1
        assert events.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED) == 1

    def test_a_refused_call_holds_back_the_later_ones_until_somebody_tries_again(self) -> None:
        """A signal for a workflow that is not there; the admin sends it when it is."""
        with override_settings(PERDURE=MEMORY):
            with self.assertLogs("perdure.django", "ERROR"):
                signal_workflow_on_commit("late", OrderWorkflow.delivered)
            signal_workflow_on_commit("late", OrderWorkflow.delivered)
            first, second = OutgoingCall.objects.order_by("pk")
            assert first.failed_at is not None
            assert "NOT_FOUND" in first.error
            assert second.failed_at is None

            async def start(client: Any) -> None:
                await client.start_workflow(OrderWorkflow.run, 1, id="late", task_queue="shop")

            run(start, WAIT_S)
            self.client.force_login(User.objects.create_superuser("ada"))
            page = self.client.get("/admin/perdure/outgoingcall/")
            assert "NOT_FOUND" in page.content.decode()
            chosen = {"action": "try_again", "_selected_action": [str(first.pk)]}
            answer = self.client.post("/admin/perdure/outgoingcall/", chosen, follow=True)
            assert "2 sent" in answer.content.decode()
            assert _events("late").count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED) == 2

    def test_what_is_wrong_with_the_settings_is_not_held_against_a_call(self) -> None:
        """A namespace that is not there yet, a key that has expired: it is sent when that has been put right."""
        elsewhere = {**MEMORY, "NAMESPACE": "elsewhere"}
        with override_settings(PERDURE=elsewhere), self.assertLogs("perdure.django", "WARNING"):
            start_workflow_on_commit("Order", id="early")
        for status in (RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED):
            error = RPCError("expired", status, b"")
            with (
                patch.object(bridge, "run", side_effect=error),
                self.assertRaisesMessage(RPCError, "expired"),
            ):
                calls.send_waiting()
        call = OutgoingCall.objects.get()
        assert (call.failed_at, call.tries) == (None, 3)

    def test_a_call_that_the_server_cannot_take_now_does_not_hold_up_other_workflows(self) -> None:
        """It is tried again; what else is waiting is sent meanwhile."""
        first, second = self._write_while_the_server_is_away(), self._write_while_the_server_is_away()
        send = calls._send

        def overloaded(call: OutgoingCall) -> bool:
            if call.workflow_id == first.workflow_id:
                raise RPCError("busy", RPCStatusCode.RESOURCE_EXHAUSTED, b"")
            return send(call)

        with override_settings(PERDURE=MEMORY):
            with patch.object(calls, "_send", overloaded), self.assertRaisesMessage(RPCError, "busy"):
                calls.send_waiting()
            left = OutgoingCall.objects.order_by("pk")
            assert [call.workflow_id for call in left] == [first.workflow_id] * 2
            assert _events(second.workflow_id).count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED) == 1

    def test_a_batch_is_not_filled_by_calls_that_are_held_back(self) -> None:
        """Many wait behind a refused one; those of others come in turn."""
        refused = self._write_while_the_server_is_away()
        OutgoingCall.objects.filter(kind="start").update(failed_at=timezone.now())
        other = self._write_while_the_server_is_away()
        with override_settings(PERDURE=MEMORY), patch.object(calls, "SWEEP_BATCH", 1):
            assert calls.send_waiting() == 1
        assert OutgoingCall.objects.filter(workflow_id=refused.workflow_id).count() == 2
        assert OutgoingCall.objects.filter(workflow_id=other.workflow_id).count() == 1

    def test_links_lead_to_workflows_and_instances_of_any_id(self) -> None:
        """Ids may hold what addresses and the admin's keys are made of."""
        order = Order.objects.create(item="tea", amount_cents=1)
        kind = ContentType.objects.get_for_model(order)
        link = WorkflowLink(workflow_id="a/b?c#d", namespace="n", content_type=kind, object_id="x_5F1")
        of_links = admin.site._registry[WorkflowLink]
        assert '/namespaces/n/workflows/a%2Fb%3Fc%23d"' in str(of_links.in_ui(link))  # type: ignore[attr-defined]
        assert "/order/x_5F5F1/change/" in str(of_links.belongs_to(link))  # type: ignore[attr-defined]

    def test_health_without_a_server_is_503_and_says_why(self) -> None:
        """As JSON, within seconds."""
        with override_settings(PERDURE=NOWHERE):
            answer = self.client.get("/health/")
        assert answer.status_code == 503
        assert answer.json()["server"] is False
        assert "127.0.0.1:1" in answer.json()["error"]

    def test_health_without_a_database_does_not_say_what_its_driver_said(self) -> None:
        """Hosts, users and statements are for the log: anybody may ask for the application's health."""
        secret = OperationalError('connection to "db-7.internal" as "shop_admin" failed')
        with (
            override_settings(PERDURE=MEMORY),
            patch.object(OutgoingCall.objects, "using", side_effect=secret),
        ):
            with self.assertLogs("perdure.django", "WARNING") as logged:
                answer = self.client.get("/health/")
        assert answer.status_code == 503
        assert answer.json()["server"] is True
        assert answer.json()["error"] == "the database cannot be asked (OperationalError); the log says more"
        assert "db-7.internal" in logged.output[0]

    def test_connections_of_activities_are_looked_after(self) -> None:
        """Stale ones are closed before and after each, in the activity's own thread: connections belong to threads."""
        order = Order.objects.create(item="tea", amount_cents=1)
        threads: list[str] = []

        def close_and_count() -> None:
            threads.append(threading.current_thread().name)
            close_old_connections()

        closing = patch("perdure.contrib.django.connections.close_old_connections", close_and_count)
        with override_settings(PERDURE=MEMORY), closing, working():
            start_workflow_on_commit(OrderWorkflow.run, order.pk, id=order.workflow_id)
            signal_workflow_on_commit(order.workflow_id, OrderWorkflow.delivered)
            run(lambda client: client.get_workflow_handle(order.workflow_id).result(), WAIT_S)
        assert len(threads) == 4, threads
        assert all(name.startswith("perdure-activity") for name in threads), threads


class SettingsTests(SimpleTestCase):
    """What cannot be used is refused with a message that says what can."""

    def test_wrong_settings_say_what_is_wrong(self) -> None:
        """Names, types and the converter; also as a system check."""
        for given, expected in (
            ({"ADRESS": "x"}, "PERDURE has no 'ADRESS'; it may have ADDRESS"),
            ({"THREADS": "10"}, "PERDURE['THREADS'] must be a int"),
            ({"DATA_CONVERTER": "no.such"}, "PERDURE['DATA_CONVERTER']"),
            ({"DATA_CONVERTER": "os.path.join"}, "name a perdure.converter.DataConverter"),
            ([], "PERDURE must be a dict"),
        ):
            with self.subTest(given=given), override_settings(PERDURE=given):
                with self.assertRaises(ImproperlyConfigured) as raised:
                    perdure_settings().converter()
                assert expected in str(raised.exception)
                assert [error.id for error in check_settings()] == ["perdure.E001"]

    def test_commands_say_what_to_set(self) -> None:
        """A server cannot be started for an address inside a process, nor a worker without a server."""
        with override_settings(PERDURE=MEMORY), self.assertRaisesMessage(CommandError, "HOST:PORT"):
            call_command("perdure_server", stdout=io.StringIO())
        with override_settings(PERDURE=NOWHERE), self.assertRaisesMessage(CommandError, "PERDURE['ADDRESS']"):
            call_command("perdure_worker", stdout=io.StringIO())

    def test_the_client_says_that_no_server_answers(self) -> None:
        """Instead of waiting."""
        with override_settings(PERDURE=NOWHERE), self.assertRaises(ClientConnectError):
            run(lambda client: client.count_workflows(""), WAIT_S)
