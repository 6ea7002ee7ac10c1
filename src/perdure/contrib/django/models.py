"""Two tables: requests that wait to be sent, and which workflow belongs to which model instance."""

from __future__ import annotations

import uuid

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models


class OutgoingCall(models.Model):
    """A request to the server, written by the transaction that needs it and deleted once the server has it."""

    class Kind(models.TextChoices):
        """Which RPC."""

        START = "start", "start a workflow"
        SIGNAL = "signal", "signal a workflow"

    request_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    workflow_id = models.CharField(max_length=1000, db_index=True)
    name = models.CharField(max_length=1000, help_text="of the workflow or signal")
    request = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    tries = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    failed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """Names and order."""

        ordering = ("pk",)
        verbose_name = "outgoing call"

    def __str__(self) -> str:
        """Which call it is."""
        return f"{self.get_kind_display()} {self.workflow_id}: {self.name}"


class WorkflowLink(models.Model):
    """A workflow that was started for a model instance."""

    workflow_id = models.CharField(max_length=1000, db_index=True)
    workflow_type = models.CharField(max_length=1000)
    namespace = models.CharField(max_length=1000)
    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
    object_id = models.CharField(max_length=255, db_index=True)
    instance = GenericForeignKey("content_type", "object_id")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Names and order."""

        ordering = ("-pk",)
        verbose_name = "workflow"

    def __str__(self) -> str:
        """The workflow's id."""
        return self.workflow_id
