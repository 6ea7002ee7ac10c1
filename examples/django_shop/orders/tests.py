"""The order application with Django's test client, an engine in memory and a worker beside it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.test import TransactionTestCase, override_settings

from perdure.contrib.django import bridge, run, start_workflow_on_commit
from perdure.contrib.django.worker import working

from .models import Order
from .workflows import OrderWorkflow

WAIT_S = 30


@override_settings(
    PERDURE={"ADDRESS": "sqlite://", "TASK_QUEUE": "shop", "UI_URL": "http://ui", "DELIVER_TIMEOUT_S": 20.0}
)
class OrderTests(TransactionTestCase):
    """Orders, from the request to the end of their workflow."""

    def setUp(self) -> None:
        """A worker for the test, on an engine of its own."""
        self.addCleanup(bridge.stop)
        self.enterContext(working())

    def _result(self, order_id: int) -> Any:
        return run(lambda client: client.get_workflow_handle(f"order-{order_id}").result(), WAIT_S)

    def test_an_order_is_paid_and_delivered(self) -> None:
        """A request starts the workflow, another signals it."""
        placed = self.client.post("/orders/", {"item": "tea", "amount_cents": "450"})
        assert placed.status_code == 201, placed.content
        order_id = placed.json()["id"]
        assert self.client.post(f"/orders/{order_id}/delivered/").status_code == 202
        assert self._result(order_id) == f"receipt-{order_id}"
        shown = self.client.get(f"/orders/{order_id}/").json()
        assert (shown["status"], shown["receipt"]) == ("delivered", f"receipt-{order_id}")

    def test_a_transaction_that_rolls_back_starts_nothing(self) -> None:
        """Neither the order nor its workflow is there."""
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            start_workflow_on_commit(OrderWorkflow.run, 1, id="never")
            1 / 0  # noqa: B018  # the view fails after it has done everything
        assert run(lambda client: client.count_workflows("WorkflowId = 'never'"), WAIT_S).count == 0

    def test_a_request_without_an_amount_is_refused(self) -> None:
        """And says what is needed."""
        refused = self.client.post("/orders/", {"item": "tea"})
        assert refused.status_code == 400
        assert "amount_cents" in refused.json()["error"]
        assert not Order.objects.exists()

    def test_the_admin_shows_an_order_beside_its_workflow(self) -> None:
        """With the status that the server has now, and a link to the web UI."""
        self.client.force_login(User.objects.create_superuser("ada"))
        order_id = self.client.post("/orders/", {"item": "tea", "amount_cents": "450"}).json()["id"]
        page = self.client.get(f"/admin/orders/order/{order_id}/change/").content.decode()
        assert f"order-{order_id}" in page
        assert "running" in page
        assert f"http://ui/namespaces/default/workflows/order-{order_id}" in page
        listed = self.client.get("/admin/perdure/workflowlink/").content.decode()
        assert f"/admin/orders/order/{order_id}/change/" in listed

    def test_health_says_what_is_missing(self) -> None:
        """Healthy with a worker, and not without a server."""
        healthy = self.client.get("/health/")
        assert healthy.status_code == 200, healthy.content
        assert healthy.json()["workers"] >= 1
