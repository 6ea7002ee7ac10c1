"""A health check for load balancers and monitoring: can orders be taken, and is anybody working on them?"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

from django.db import connections
from django.http import HttpRequest, JsonResponse
from django.utils import timezone

from perdure.api.enums.v1 import TaskQueueType
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.workflowservice.v1 import DescribeTaskQueueRequest
from perdure.client import Client
from perdure.contrib.django import bridge
from perdure.contrib.django.calls import is_outbox
from perdure.contrib.django.settings import perdure_settings

logger = logging.getLogger("perdure.django")

_TIMEOUT_S = 3.0
_OLDEST_CALL_S = 60.0


@dataclass(frozen=True)
class Health:
    """What was found.

    Attributes:
        server: The server answers.
        workers: So many workers poll the task queue for workflow tasks.
        waiting: So many calls wait to be sent.
        oldest_s: The oldest of them has waited for so long, seconds.
        failed: So many calls were refused and wait for a person.
        error: Why the server or the database cannot be asked.
    """

    server: bool = False
    workers: int = 0
    waiting: int = 0
    oldest_s: float = 0.0
    failed: int = 0
    error: str = ""

    @property
    def is_healthy(self) -> bool:
        """Whether all is as it should be; refused calls do not count, they need a person and no restart."""
        return self.server and self.workers > 0 and self.oldest_s < _OLDEST_CALL_S and not self.error


def check_health() -> Health:
    """Ask the server and the database. Takes a few seconds at most and raises nothing."""
    from perdure.contrib.django.models import OutgoingCall

    given = perdure_settings()
    found: dict[str, Any] = {}

    async def pollers(client: Client) -> int:
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=given.namespace,
                task_queue=TaskQueue(name=given.task_queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
            )
        )
        return len(answer.pollers)

    try:
        calls = [OutgoingCall.objects.using(alias) for alias in connections if is_outbox(alias)]
        waiting = [rows.filter(failed_at__isnull=True).order_by("pk") for rows in calls]
        found = {
            "waiting": sum(rows.count() for rows in waiting),
            "failed": sum(rows.filter(failed_at__isnull=False).count() for rows in calls),
        }
        oldest = [rows[0].created_at for rows in waiting if rows.exists()]
        if oldest:
            found["oldest_s"] = (timezone.now() - min(oldest)).total_seconds()
    except Exception as error:  # whatever it is, the answer of a health check is that it is not well
        # A driver's text may name hosts, users and statements, and anybody may ask how the application is.
        logger.warning("The database cannot be asked: %s", error)
        found["error"] = f"the database cannot be asked ({type(error).__name__}); the log says more"
    try:
        found.update(workers=bridge.run(pollers, _TIMEOUT_S), server=True)
    except Exception as error:  # as above; what the client says, it says of the server in the settings
        found.setdefault("error", f"{type(error).__name__}: {error}")
    return Health(**found)


def health(request: HttpRequest) -> JsonResponse:
    """A view: `path("health/", perdure.contrib.django.health.health)`. 200 when healthy, else 503; JSON either way."""
    found = check_health()
    body: dict[str, Any] = {"healthy": found.is_healthy, **asdict(found)}
    return JsonResponse(body, status=200 if found.is_healthy else 503)
