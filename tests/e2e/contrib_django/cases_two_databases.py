"""The outbox in a project with two databases, under Django's test runner."""

from __future__ import annotations

from django.db import transaction
from django.test import TransactionTestCase, override_settings

from examples.django_shop.orders.workflows import OrderWorkflow
from perdure.api.enums.v1 import EventType
from perdure.contrib.django import bridge, start_workflow_on_commit
from perdure.contrib.django.models import OutgoingCall
from perdure.contrib.django.worker import sweep
from perdure.service import RPCError
from tests.e2e.contrib_django.cases import MEMORY, NOWHERE, _events


class TwoDatabasesTests(TransactionTestCase):
    """Each database has its own transactions, and an outbox."""

    databases = {"default", "second"}  # noqa: RUF012 - as Django has it

    def setUp(self) -> None:
        """Each test has an engine of its own."""
        self.addCleanup(bridge.stop)

    def test_what_a_transaction_of_another_database_wrote_is_swept(self) -> None:
        """Nobody else would send it, and health would not tell."""
        with override_settings(PERDURE=NOWHERE), self.assertLogs("perdure.django", "WARNING"):
            start_workflow_on_commit(OrderWorkflow.run, 1, id="second", using="second")
            assert self.client.get("/health/").json()["waiting"] == 1
        assert not OutgoingCall.objects.exists()
        bridge.stop()
        with override_settings(PERDURE=MEMORY):
            sweep(0.0)
            assert not OutgoingCall.objects.using("second").exists()
            assert _events("second")[0] == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED

    @override_settings(
        PERDURE=MEMORY, DATABASE_ROUTERS=["tests.e2e.contrib_django.two_databases.OutboxInSecond"]
    )
    def test_the_transaction_that_counts_is_that_of_the_outbox(self) -> None:
        """What is rolled back has no workflow, wherever routers keep the tables."""

        def rolled_back() -> None:
            with transaction.atomic("second"):
                start_workflow_on_commit(OrderWorkflow.run, 1, id="no")
                raise ValueError("rolled back")

        self.assertRaisesMessage(ValueError, "rolled back", rolled_back)
        with self.assertRaisesMessage(RPCError, ""):
            _events("no")
