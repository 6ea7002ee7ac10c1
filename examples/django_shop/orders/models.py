"""The order."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """What somebody bought, and how far it is. The workflow moves it on."""

    class Status(models.TextChoices):
        """How far it is."""

        PLACED = "placed"
        PAID = "paid"
        DELIVERED = "delivered"

    item = models.CharField(max_length=200)
    amount_cents = models.PositiveIntegerField()
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PLACED)
    receipt = models.CharField(max_length=100, blank=True)

    def __str__(self) -> str:
        """The item."""
        return self.item

    @property
    def workflow_id(self) -> str:
        """Of the workflow that sees it through."""
        return f"order-{self.pk}"
