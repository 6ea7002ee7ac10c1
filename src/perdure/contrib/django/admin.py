"""The admin: workflows beside the model instances they were started for, and calls that wait or were refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote as url_quote

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.admin import GenericTabularInline
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from perdure.client import Client
from perdure.contrib.django import bridge
from perdure.contrib.django.calls import send_waiting
from perdure.contrib.django.models import OutgoingCall, WorkflowLink
from perdure.contrib.django.settings import perdure_settings
from perdure.service import RPCError

_TIMEOUT_S = 2.0

if TYPE_CHECKING:
    _LinkAdmin = admin.ModelAdmin[WorkflowLink]
    _CallAdmin = admin.ModelAdmin[OutgoingCall]
    _Inline = GenericTabularInline
else:
    _LinkAdmin = _CallAdmin = admin.ModelAdmin
    _Inline = GenericTabularInline


def status_of(workflow_id: str) -> str:
    """The status of a workflow as the server has it now; a reason in words if it cannot be asked."""

    async def describe(client: Client) -> str:
        status = (await client.get_workflow_handle(workflow_id).describe()).status
        return status.name.replace("_", " ").lower() if status is not None else "unknown"

    try:
        return bridge.run(describe, _TIMEOUT_S)
    except RPCError as error:
        return "not started yet, or removed" if error.status.name == "NOT_FOUND" else f"unknown: {error}"
    except (RuntimeError, TimeoutError) as error:
        return f"unknown: {error}"


class _Workflows:
    """Columns that lists and inlines share."""

    @admin.display(description="status")
    def status(self, link: WorkflowLink) -> str:
        """As the server has it now."""
        return status_of(link.workflow_id)

    @admin.display(description="history")
    def in_ui(self, link: WorkflowLink) -> SafeString | str:
        """A link to the web UI."""
        url = perdure_settings().ui_url.rstrip("/")
        if not url:
            return "-"
        return format_html(
            '<a href="{}/namespaces/{}/workflows/{}">open</a>',
            *(url, url_quote(link.namespace, safe=""), url_quote(link.workflow_id, safe="")),
        )


class WorkflowInline(_Workflows, _Inline):
    """Workflows of a model instance: add it to `inlines` of your ModelAdmin."""

    model = WorkflowLink
    extra = 0
    can_delete = False
    fields = readonly_fields = ("workflow_id", "workflow_type", "status", "in_ui", "created_at")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Workflows are started by code."""
        return False


@admin.register(WorkflowLink)
class WorkflowLinkAdmin(_Workflows, _LinkAdmin):
    """Every workflow that was started for a model instance."""

    list_display = ("workflow_id", "workflow_type", "belongs_to", "in_ui", "created_at")
    list_filter = ("workflow_type", "content_type")
    search_fields = ("workflow_id", "object_id")
    readonly_fields = (
        "workflow_id",
        "workflow_type",
        "namespace",
        "belongs_to",
        "status",
        "in_ui",
        "created_at",
    )
    exclude = ("content_type", "object_id")

    @admin.display(description="belongs to")
    def belongs_to(self, link: WorkflowLink) -> SafeString | str:
        """The model instance, linked to its own page."""
        kind = link.content_type
        try:
            url = reverse(f"admin:{kind.app_label}_{kind.model}_change", args=[quote(link.object_id)])
        except NoReverseMatch:
            return f"{kind.name} {link.object_id}"
        return format_html('<a href="{}">{} {}</a>', url, kind.name, link.object_id)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Workflows are started by code."""
        return False


@admin.register(OutgoingCall)
class OutgoingCallAdmin(_CallAdmin):
    """Calls that wait, and calls that were refused; a refused one holds back the later ones of its workflow."""

    list_display = ("pk", "kind", "workflow_id", "name", "created_at", "tries", "failed_at", "error")
    list_filter = ("kind", "failed_at")
    search_fields = ("workflow_id", "name")
    readonly_fields = (
        "request_id",
        "kind",
        "workflow_id",
        "name",
        "created_at",
        "tries",
        "failed_at",
        "error",
    )
    actions = ("try_again",)

    @admin.action(description="Send again")
    def try_again(self, request: HttpRequest, queryset: QuerySet[OutgoingCall]) -> None:
        """Sends the chosen calls again, and what they held back."""
        workflow_ids = set(queryset.values_list("workflow_id", flat=True))
        queryset.update(failed_at=None, error="")
        sent = 0
        for workflow_id in sorted(workflow_ids):
            try:
                sent += send_waiting(workflow_id=workflow_id)
            except (RPCError, RuntimeError, TimeoutError) as error:
                self.message_user(request, f"{workflow_id}: {error}", messages.WARNING)
        self.message_user(request, f"{sent} sent.")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """They are written by transactions."""
        return False
