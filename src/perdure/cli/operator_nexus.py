"""`perdure operator nexus endpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from perdure.api.common import v1 as common
from perdure.api.nexus import v1 as nexus_api
from perdure.api.operatorservice import v1 as operator
from perdure.cli import flags as f
from perdure.cli import listings, payloads
from perdure.cli.command import Flags, Group
from perdure.cli.errors import EXIT_NOT_FOUND, CommandError, WrongUsageError
from perdure.cli.session import Session
from perdure.cli.show import look

nexus = Group("nexus", "Endpoints through which workflows call Nexus operations.")
endpoint = nexus.group_of("endpoint", "Create, change and delete Nexus endpoints.")

_NAME: Final = f.text("--name", required=True, metavar="NAME", help="Name of the endpoint.")
_CONFIG: Final[f.FlagGroup] = (
    f.text("--description", help="Text for people; Markdown."),
    f.text("--description-file", metavar="PATH", help="File with that text."),
    f.text("--target-namespace", metavar="NAME", help="Namespace of the workers that serve it."),
    f.text("--target-task-queue", metavar="NAME", help="Their task queue."),
    f.text("--target-url", metavar="URL", help="Address of a service elsewhere."),
)
_COLUMNS: Final = {
    "Name": "spec.name", "Id": "id", "TargetNamespace": "spec.target.worker.namespace",
    "TargetTaskQueue": "spec.target.worker.task_queue", "TargetUrl": "spec.target.external.url",
    "CreatedTime": "created_time", "LastModifiedTime": "last_modified_time",
}  # fmt: skip


def _description(flags: Flags) -> common.Payload | None:
    text = flags.description or ""
    if flags.description_file:
        if text:
            raise WrongUsageError("--description and --description-file cannot be used together")
        try:
            text = Path(flags.description_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{flags.description_file} cannot be read: {error}") from error
        if not text:
            raise WrongUsageError(f"{flags.description_file} is empty")
    return payloads.json_payload(text) if text else None


def _check_target(flags: Flags) -> None:
    if flags.target_url and (flags.target_namespace or flags.target_task_queue):
        raise WrongUsageError("--target-url cannot be used with --target-namespace and --target-task-queue")


def _target(url: str, namespace: str, task_queue: str) -> nexus_api.EndpointTarget:
    if url:
        return nexus_api.EndpointTarget(external=nexus_api.EndpointTarget.External(url=url))
    return nexus_api.EndpointTarget(
        worker=nexus_api.EndpointTarget.Worker(namespace=namespace, task_queue=task_queue)
    )


async def _by_name(session: Session, name: str) -> Any:
    answer = await session.call(operator.ListNexusEndpointsRequest(name=name))
    if not answer.endpoints:
        raise CommandError(f"there is no endpoint {name!r}", EXIT_NOT_FOUND)
    return answer.endpoints[0]


@endpoint.add(
    "create", _NAME, _CONFIG,
    example="perdure operator nexus endpoint create --name prices --target-namespace default "
    "--target-task-queue prices",
)  # fmt: skip
async def create(session: Session, flags: Flags) -> None:
    """Create an endpoint that leads to workers of a task queue, or to an address elsewhere."""
    _check_target(flags)
    if not flags.target_url and not (flags.target_namespace and flags.target_task_queue):
        raise WrongUsageError("either --target-namespace and --target-task-queue or --target-url is needed")
    target = _target(flags.target_url or "", flags.target_namespace or "", flags.target_task_queue or "")
    spec = nexus_api.EndpointSpec(name=flags.name, description=_description(flags), target=target)
    await session.call(operator.CreateNexusEndpointRequest(spec=spec))
    session.out.note(f"The endpoint {flags.name} was created")


@endpoint.add("delete", _NAME, example="perdure operator nexus endpoint delete --name prices")
async def delete(session: Session, flags: Flags) -> None:
    """Delete an endpoint."""
    found = await _by_name(session, flags.name)
    await session.call(operator.DeleteNexusEndpointRequest(id=found.id, version=found.version))
    session.out.note(f"The endpoint {flags.name} was deleted")


@endpoint.add("get", _NAME, example="perdure operator nexus endpoint get --name prices")
async def get(session: Session, flags: Flags) -> None:
    """Show an endpoint."""
    found = await _by_name(session, flags.name)
    if session.out.is_json:
        session.out.json(found)
    description = payloads.value_of_one(found.spec.description)
    session.out.card(
        {**{name: look(found, path) for name, path in _COLUMNS.items()}, "Description": description}
    )


_ENDPOINTS: Final = listings.Listing(
    request=operator.ListNexusEndpointsRequest, items="endpoints", columns=_COLUMNS
)


@endpoint.add("list", f.WATCH, example="perdure operator nexus endpoint list")
async def list_endpoints(session: Session, flags: Flags) -> None:
    """List the endpoints of a server."""
    await listings.show(session, flags, _ENDPOINTS, operator.ListNexusEndpointsRequest())


@endpoint.add(
    "update", _NAME, _CONFIG,
    f.switch("--unset-description", help="Remove the text for people."),
    example="perdure operator nexus endpoint update --name prices --target-task-queue prices-2",
)  # fmt: skip
async def update(session: Session, flags: Flags) -> None:
    """Change an endpoint; what the flags do not say stays."""
    _check_target(flags)
    description = _description(flags)
    if description is not None and flags.unset_description:
        raise WrongUsageError("--unset-description cannot be used with a description")
    found = await _by_name(session, flags.name)
    spec = nexus_api.EndpointSpec()
    spec.CopyFrom(found.spec)
    if description is not None:
        spec.description.CopyFrom(description)
    elif flags.unset_description:
        spec.ClearField("description")
    worker = found.spec.target.worker
    if flags.target_url or flags.target_namespace or flags.target_task_queue:
        namespace = flags.target_namespace or worker.namespace
        task_queue = flags.target_task_queue or worker.task_queue
        if not flags.target_url and not (namespace and task_queue):
            raise WrongUsageError("--target-namespace and --target-task-queue are both needed")
        spec.target.CopyFrom(_target(flags.target_url or "", namespace, task_queue))
    await session.call(operator.UpdateNexusEndpointRequest(id=found.id, version=found.version, spec=spec))
    session.out.note(f"The endpoint {flags.name} was changed")
