"""The admin: an order beside its workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

from perdure.contrib.django.admin import WorkflowInline

from .models import Order

if TYPE_CHECKING:
    _OrderAdmin = admin.ModelAdmin[Order]
else:
    _OrderAdmin = admin.ModelAdmin


@admin.register(Order)
class OrderAdmin(_OrderAdmin):
    """Orders."""

    list_display = ("item", "amount_cents", "status", "receipt")
    inlines = (WorkflowInline,)
