"""RPCs on worker deployments and their versions."""

from __future__ import annotations

from perdure.api.workflowservice.v1 import (
    CreateWorkerDeploymentRequest,
    CreateWorkerDeploymentResponse,
    CreateWorkerDeploymentVersionRequest,
    CreateWorkerDeploymentVersionResponse,
    DeleteWorkerDeploymentRequest,
    DeleteWorkerDeploymentResponse,
    DeleteWorkerDeploymentVersionRequest,
    DeleteWorkerDeploymentVersionResponse,
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentResponse,
    DescribeWorkerDeploymentVersionRequest,
    DescribeWorkerDeploymentVersionResponse,
    ListWorkerDeploymentsRequest,
    ListWorkerDeploymentsResponse,
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentCurrentVersionResponse,
    SetWorkerDeploymentManagerRequest,
    SetWorkerDeploymentManagerResponse,
    SetWorkerDeploymentRampingVersionRequest,
    SetWorkerDeploymentRampingVersionResponse,
    UpdateWorkerDeploymentVersionComputeConfigRequest,
    UpdateWorkerDeploymentVersionComputeConfigResponse,
    UpdateWorkerDeploymentVersionMetadataRequest,
    UpdateWorkerDeploymentVersionMetadataResponse,
    ValidateWorkerDeploymentVersionComputeConfigRequest,
    ValidateWorkerDeploymentVersionComputeConfigResponse,
)
from perdure.core.deployment import changes
from perdure.core.deployment.compute import check_groups
from perdure.core.deployment.routes import UNVERSIONED_NAME, queue_name, version_message, version_text
from perdure.core.deployment.state import Deployment
from perdure.core.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from perdure.core.run.protos import set_timestamp
from perdure.core.run.records import QueueKey, TaskKind
from perdure.server.deployments import Deployments
from perdure.server.engine.engine import Engine
from perdure.server.service import deployment_messages as shown
from perdure.server.service.call import Call
from perdure.server.service.queue_stats import levels_of, stats_message
from perdure.server.service.version_uses import VersionUses
from perdure.server.service.worker_versions import (
    check_deployment_name,
    checked_version,
    named_build_id,
    named_version,
)

_PAGE = "deployments-page"
_BAD_PAGE = "invalid next_page_token"


class DeploymentRpcs:
    """Handlers of the RPCs on worker deployments.

    Args:
        engine: task queues, and the runs that versions wait for.
        deployments: the registry.
        page_size: deployments of a page at most.
    """

    def __init__(self, engine: Engine, deployments: Deployments, page_size: int = 1_000) -> None:
        self._engine = engine
        self._deployments = deployments
        self._uses = VersionUses(engine, deployments)
        self._limits = engine.limits.run
        self._page_size = page_size

    # --- reading ---

    async def describe_worker_deployment(
        self, request: DescribeWorkerDeploymentRequest, call: Call
    ) -> DescribeWorkerDeploymentResponse:
        """DescribeWorkerDeployment: routing, and each version in short."""
        namespace_id = self._engine.namespaces.get(request.namespace).namespace_id
        name = request.deployment_name
        check_deployment_name(name, self._limits)
        deployment = self._deployments.get(namespace_id, name)
        statuses = {
            build: await self._uses.status(namespace_id, name, deployment, build)
            for build in deployment.versions
        }
        now_ns = self._engine.runtime.now_ns()
        response = DescribeWorkerDeploymentResponse(conflict_token=deployment.token)
        response.worker_deployment_info.CopyFrom(shown.deployment_info(name, deployment, statuses, now_ns))
        return response

    async def describe_worker_deployment_version(
        self, request: DescribeWorkerDeploymentVersionRequest, call: Call
    ) -> DescribeWorkerDeploymentVersionResponse:
        """DescribeWorkerDeploymentVersion: its task queues, drainage and metadata."""
        namespace_id = self._engine.namespaces.get(request.namespace).namespace_id
        if not request.version and not request.HasField("deployment_version"):
            raise InvalidArgumentError("deployment version cannot be empty")
        name, build_id = named_version(request.deployment_version, request.version)
        version = checked_version(name, build_id, self._limits)
        deployment = self._deployments.find(namespace_id, name)
        if deployment is None or build_id not in deployment.versions:
            raise NotFoundError("Worker Deployment Version not found")
        number = await self._uses.status(namespace_id, name, deployment, build_id)
        response = DescribeWorkerDeploymentVersionResponse()
        now_ns = self._engine.runtime.now_ns()
        info = shown.version_info(name, deployment, build_id, number, now_ns)
        response.worker_deployment_version_info.CopyFrom(info)
        for queue, kind in deployment.versions[build_id].queues:
            row = response.version_task_queues.add(name=queue, type=kind)
            if request.report_task_queue_stats:
                key = QueueKey(namespace_id, queue_name(queue, version), TaskKind(kind))
                levels = await levels_of(self._engine, (key,))
                row.stats.CopyFrom(stats_message(levels.values(), now_ns))
                for level, waiting in levels.items():
                    row.stats_by_priority_key[level].CopyFrom(stats_message((waiting,), now_ns))
        return response

    async def list_worker_deployments(
        self, request: ListWorkerDeploymentsRequest, call: Call
    ) -> ListWorkerDeploymentsResponse:
        """ListWorkerDeployments: by name."""
        namespace_id = self._engine.namespaces.get(request.namespace).namespace_id
        found = self._deployments.all(namespace_id)
        if request.next_page_token:
            after = self._engine.tokens.open(_PAGE, request.next_page_token, _BAD_PAGE)[0]
            found = [(name, deployment) for name, deployment in found if name > after]
        size = min(request.page_size, self._page_size) if request.page_size > 0 else self._page_size
        response = ListWorkerDeploymentsResponse()
        for name, deployment in found[:size]:
            await self._list(response, namespace_id, name, deployment)
        if len(found) > size:
            response.next_page_token = self._engine.tokens.seal(_PAGE, found[size - 1][0])
        return response

    async def _list(
        self, response: ListWorkerDeploymentsResponse, namespace_id: str, name: str, deployment: Deployment
    ) -> None:
        row = response.worker_deployments.add(name=name)
        set_timestamp(row.create_time, deployment.created_ns)
        row.routing_config.CopyFrom(shown.routing_config(name, deployment))
        versions = deployment.versions
        latest = max(versions, key=lambda build: (versions[build].created_ns, build), default="")
        now_ns = self._engine.runtime.now_ns()
        for field, build_id in (
            ("latest_version_summary", latest),
            ("current_version_summary", deployment.current),
            ("ramping_version_summary", deployment.ramping),
        ):
            if build_id:
                number = await self._uses.status(namespace_id, name, deployment, build_id)
                getattr(row, field).CopyFrom(shown.summary(name, deployment, build_id, number, now_ns))

    # --- routing ---

    async def set_worker_deployment_current_version(
        self, request: SetWorkerDeploymentCurrentVersionRequest, call: Call
    ) -> SetWorkerDeploymentCurrentVersionResponse:
        """SetWorkerDeploymentCurrentVersion: where new work goes."""
        namespace_id = self._engine.namespaces.get(request.namespace).namespace_id
        name = request.deployment_name
        if not name:
            raise InvalidArgumentError("deployment name cannot be empty")
        build_id = named_build_id(name, request.build_id, request.version)
        check_deployment_name(name, self._limits)
        now_ns = self._engine.runtime.now_ns()
        if request.allow_no_pollers and build_id:
            checked_version(name, build_id, self._limits)
        elif not request.ignore_missing_task_queues:
            await self._check_queues(namespace_id, name, build_id, "current")
        before, after = await self._deployments.change(
            namespace_id,
            name,
            lambda state: changes.set_current(
                name,
                state,
                build_id,
                now_ns,
                identity=request.identity,
                token=request.conflict_token,
                may_create=request.allow_no_pollers,
            ),
            create=Deployment(created_ns=now_ns) if request.allow_no_pollers else None,
        )
        response = SetWorkerDeploymentCurrentVersionResponse(conflict_token=after.token)
        response.previous_version = shown.dotted(name, before.current)
        if before.current:
            response.previous_deployment_version.CopyFrom(version_message(version_text(name, before.current)))
        return response

    async def set_worker_deployment_ramping_version(
        self, request: SetWorkerDeploymentRampingVersionRequest, call: Call
    ) -> SetWorkerDeploymentRampingVersionResponse:
        """SetWorkerDeploymentRampingVersion: a share of new work, by the hash of the workflow's id."""
        namespace_id = self._engine.namespaces.get(request.namespace).namespace_id
        name, percentage = request.deployment_name, request.percentage
        if not 0 <= percentage <= 100:
            raise InvalidArgumentError("Percentage must be between 0 and 100 (inclusive)")
        is_named = bool(request.build_id) or request.version not in ("", UNVERSIONED_NAME)
        build_id = named_build_id(name, request.build_id, request.version) if is_named else None
        if not is_named and percentage > 0:
            build_id = ""
        check_deployment_name(name, self._limits)
        now_ns = self._engine.runtime.now_ns()
        if request.allow_no_pollers and build_id:
            checked_version(name, build_id, self._limits)
        elif build_id and not request.ignore_missing_task_queues:
            await self._check_queues(namespace_id, name, build_id, "ramping")
        before, after = await self._deployments.change(
            namespace_id,
            name,
            lambda state: changes.set_ramping(
                name,
                state,
                build_id,
                percentage,
                now_ns,
                identity=request.identity,
                token=request.conflict_token,
                may_create=request.allow_no_pollers,
            ),
            create=Deployment(created_ns=now_ns) if request.allow_no_pollers else None,
        )
        response = SetWorkerDeploymentRampingVersionResponse(
            conflict_token=after.token, previous_percentage=before.percentage
        )
        if before.ramping is not None:
            response.previous_version = shown.dotted(name, before.ramping)
        if before.ramping:
            response.previous_deployment_version.CopyFrom(version_message(version_text(name, before.ramping)))
        return response

    async def _check_queues(self, namespace_id: str, name: str, build_id: str, role: str) -> None:
        """Refuses a version that was not polled on a queue of the current one where tasks wait.

        Raises:
            FailedPreconditionError: it was not.
        """
        deployment = self._deployments.find(namespace_id, name)
        if deployment is None or build_id not in deployment.versions or build_id == deployment.current:
            return
        current = version_text(name, deployment.current)
        routes = self._deployments.routes(namespace_id)
        for queue, number in changes.missing_queues(deployment, build_id):
            kind = TaskKind(number)
            if routes.route(queue, kind).current != current:
                continue  # another deployment has it now
            key = QueueKey(namespace_id, queue_name(queue, current), kind)
            if await self._engine.reading(self._engine.store.count_tasks(key)):
                raise FailedPreconditionError(
                    f"proposed {role} version '{version_text(name, build_id)}' is missing active task queues from the "
                    f"current version; these would become unversioned if it is set as the {role} version"
                )

    # --- the rest ---

    async def set_worker_deployment_manager(
        self, request: SetWorkerDeploymentManagerRequest, call: Call
    ) -> SetWorkerDeploymentManagerResponse:
        """SetWorkerDeploymentManager: only the manager may change the deployment, as long as there is one."""
        namespace_id = self._engine.namespaces.get(request.namespace).namespace_id
        if not request.identity:
            raise InvalidArgumentError("Identity is required")
        check_deployment_name(request.deployment_name, self._limits)
        manager = request.identity if request.self else request.manager_identity
        now_ns = self._engine.runtime.now_ns()
        before, after = await self._deployments.change(
            namespace_id,
            request.deployment_name,
            lambda state: changes.set_manager(
                state, manager, now_ns, identity=request.identity, token=request.conflict_token
            ),
        )
        return SetWorkerDeploymentManagerResponse(
            conflict_token=after.token, previous_manager_identity=before.manager
        )

    async def update_worker_deployment_version_metadata(
        self, request: UpdateWorkerDeploymentVersionMetadataRequest, call: Call
    ) -> UpdateWorkerDeploymentVersionMetadataResponse:
        """UpdateWorkerDeploymentVersionMetadata: adds, replaces and removes entries."""
        namespace_id = self._engine.namespaces.get(request.namespace).namespace_id
        if not request.upsert_entries and not request.remove_entries:
            raise InvalidArgumentError("At least one of remove_entries or upsert_entries must be provided")
        name, build_id = named_version(request.deployment_version, request.version)
        checked_version(name, build_id, self._limits)
        upserts = {key: payload.SerializeToString() for key, payload in request.upsert_entries.items()}

        def change(state: Deployment) -> Deployment:
            return changes.with_metadata(
                name, state, build_id, upserts, request.remove_entries, request.identity
            )

        _, after = await self._deployments.change(namespace_id, name, change)
        response = UpdateWorkerDeploymentVersionMetadataResponse()
        if request.upsert_entries:
            response.metadata.SetInParent()
        for key, data in after.versions[build_id].metadata.items():
            response.metadata.entries[key].ParseFromString(data)
        return response

    async def create_worker_deployment(
        self, request: CreateWorkerDeploymentRequest, call: Call
    ) -> CreateWorkerDeploymentResponse:
        """CreateWorkerDeployment: one without versions; the same request again finds it."""
        namespace_id = self._engine.namespaces.get(request.namespace).namespace_id
        name = request.deployment_name
        check_deployment_name(name, self._limits)
        now_ns = self._engine.runtime.now_ns()
        new = Deployment(
            created_ns=now_ns,
            create_request_id=request.request_id,
            last_modifier=request.identity,
            token=changes.token_at(now_ns, 0),
        )

        def change(state: Deployment) -> Deployment:
            is_mine = bool(request.request_id) and state.create_request_id == request.request_id
            if state is not new and not is_mine:
                by_poll = state.create_request_id == changes.CREATED_BY_POLL
                how = " (auto-created from worker polls)" if by_poll else ""
                raise AlreadyExistsError(f'Worker Deployment with name "{name}" already exists{how}')
            return state

        _, after = await self._deployments.change(namespace_id, name, change, create=new)
        return CreateWorkerDeploymentResponse(conflict_token=after.token)

    async def create_worker_deployment_version(
        self, request: CreateWorkerDeploymentVersionRequest, call: Call
    ) -> CreateWorkerDeploymentVersionResponse:
        """CreateWorkerDeploymentVersion: one that no worker has polled for yet; the same request again finds it."""
        namespace_id = self._engine.namespaces.get(request.namespace).namespace_id
        name, build_id = _named_by(request)
        checked_version(name, build_id, self._limits)
        check_groups(request.compute_config.scaling_groups)
        now_ns = self._engine.runtime.now_ns()

        def change(state: Deployment) -> Deployment:
            return changes.created(
                name, state, build_id, now_ns, identity=request.identity, request_id=request.request_id
            )

        await self._deployments.change(namespace_id, name, change)
        return CreateWorkerDeploymentVersionResponse()

    async def update_worker_deployment_version_compute_config(
        self, request: UpdateWorkerDeploymentVersionComputeConfigRequest, call: Call
    ) -> UpdateWorkerDeploymentVersionComputeConfigResponse:
        """UpdateWorkerDeploymentVersionComputeConfig: none can be used here; removing what is not there is done."""
        namespace_id = self._engine.namespaces.get(request.namespace).namespace_id
        name, build_id = _named_by(request)
        self._version(namespace_id, name, build_id)
        check_groups(
            {name: update.scaling_group for name, update in request.compute_config_scaling_groups.items()}
        )
        return UpdateWorkerDeploymentVersionComputeConfigResponse()

    async def validate_worker_deployment_version_compute_config(
        self, request: ValidateWorkerDeploymentVersionComputeConfigRequest, call: Call
    ) -> ValidateWorkerDeploymentVersionComputeConfigResponse:
        """ValidateWorkerDeploymentVersionComputeConfig: always refused, since no provider can be used here."""
        self._engine.namespaces.get(request.namespace)
        check_groups(
            {name: update.scaling_group for name, update in request.compute_config_scaling_groups.items()}
        )
        raise InvalidArgumentError(
            "No prior compute config found, which means nothing can be removed and something needs to be added to be "
            "valid"
        )

    async def delete_worker_deployment(
        self, request: DeleteWorkerDeploymentRequest, call: Call
    ) -> DeleteWorkerDeploymentResponse:
        """DeleteWorkerDeployment: one without versions; none is no error."""
        namespace_id = self._engine.namespaces.get(request.namespace).namespace_id
        check_deployment_name(request.deployment_name, self._limits)

        def check(deployment: Deployment) -> None:
            if deployment.versions:
                raise FailedPreconditionError("deployment has versions, can't be deleted")

        await self._deployments.delete(namespace_id, request.deployment_name, check)
        return DeleteWorkerDeploymentResponse()

    async def delete_worker_deployment_version(
        self, request: DeleteWorkerDeploymentVersionRequest, call: Call
    ) -> DeleteWorkerDeploymentVersionResponse:
        """DeleteWorkerDeploymentVersion: one that nobody polls for and that has drained; none is no error."""
        namespace_id = self._engine.namespaces.get(request.namespace).namespace_id
        name, build_id = named_version(request.deployment_version, request.version)
        checked_version(name, build_id, self._limits)
        deployment = self._deployments.get(namespace_id, name)
        if build_id not in deployment.versions:
            return DeleteWorkerDeploymentVersionResponse()
        changes.without_version(name, deployment, build_id, identity=request.identity)
        await self._uses.check_unused(
            namespace_id, name, deployment, build_id, skip_drainage=request.skip_drainage
        )
        await self._deployments.change(
            namespace_id,
            name,
            lambda state: changes.without_version(name, state, build_id, identity=request.identity),
        )
        return DeleteWorkerDeploymentVersionResponse()

    def _version(self, namespace_id: str, name: str, build_id: str) -> None:
        """Raises NotFoundError if there is no such version."""
        deployment = self._deployments.find(namespace_id, name)
        if deployment is None or build_id not in deployment.versions:
            raise changes.no_build_id(name, build_id)


def _named_by(
    request: CreateWorkerDeploymentVersionRequest | UpdateWorkerDeploymentVersionComputeConfigRequest,
) -> tuple[str, str]:
    """Deployment name and build id of a version that must be named.

    Raises:
        InvalidArgumentError: one of them is missing.
    """
    version = request.deployment_version
    if not version.deployment_name:
        raise InvalidArgumentError("deployment name cannot be empty")
    if not version.build_id:
        raise InvalidArgumentError("build ID cannot be empty")
    return version.deployment_name, version.build_id
