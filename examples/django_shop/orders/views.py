"""Placing an order, looking at it, hearing that it has arrived. Each change and its workflow are one transaction."""

from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST

from perdure.contrib.django import signal_workflow_on_commit, start_workflow_on_commit

from .models import Order
from .workflows import OrderWorkflow


def _as_json(order: Order, status: int = 200) -> JsonResponse:
    answer = {"id": order.pk, "item": order.item, "status": order.status, "receipt": order.receipt}
    return JsonResponse(answer, status=status)


@require_POST
@transaction.atomic
def place(request: HttpRequest) -> JsonResponse:
    """Places an order: the row and its workflow, or neither."""
    item, amount = request.POST.get("item", ""), request.POST.get("amount_cents", "")
    if not item or not amount.isdecimal():
        return JsonResponse({"error": "item and amount_cents (a whole number) are needed"}, status=400)
    order = Order.objects.create(item=item, amount_cents=int(amount))
    start_workflow_on_commit(OrderWorkflow.run, order.pk, id=order.workflow_id, instance=order)
    return _as_json(order, 201)


@require_POST
def delivered(request: HttpRequest, order_id: int) -> JsonResponse:
    """The parcel has arrived: the workflow hears of it."""
    order = get_object_or_404(Order, pk=order_id)
    signal_workflow_on_commit(order.workflow_id, OrderWorkflow.delivered)
    return _as_json(order, 202)


@require_GET
def show(request: HttpRequest, order_id: int) -> JsonResponse:
    """The order as it is now."""
    return _as_json(get_object_or_404(Order, pk=order_id))
