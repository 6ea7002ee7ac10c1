"""RPCs on namespaces: register, describe, list, update, deprecate, delete. Messages as Temporal's server words them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from perdure.api.enums.v1 import (
    ArchivalState,
    ReplicationState,
)
from perdure.api.namespace.v1 import NamespaceConfig, NamespaceInfo, UpdateNamespaceInfo
from perdure.api.operatorservice.v1 import DeleteNamespaceRequest, DeleteNamespaceResponse
from perdure.api.protobuf import Duration
from perdure.api.replication.v1 import NamespaceReplicationConfig
from perdure.api.workflowservice.v1 import (
    DeprecateNamespaceRequest,
    DeprecateNamespaceResponse,
    DescribeNamespaceRequest,
    DescribeNamespaceResponse,
    ListNamespacesRequest,
    ListNamespacesResponse,
    RegisterNamespaceRequest,
    RegisterNamespaceResponse,
    UpdateNamespaceRequest,
    UpdateNamespaceResponse,
)
from perdure.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NamespaceAlreadyExistsError,
    NamespaceNotFoundError,
)
from perdure.core.run.protos import cap_duration, duration_ns, set_duration, set_timestamp
from perdure.core.visibility.attributes import AttributeType
from perdure.server.config import SECOND_NS, ServerConfig
from perdure.server.namespaces import (
    ALL_STATES,
    DELETED,
    DEPRECATED,
    OPEN_STATES,
    REGISTERED,
    SHORTEST_DELETED_SUFFIX,
    Namespace,
    Namespaces,
)
from perdure.server.nexus_endpoints import NexusEndpoints
from perdure.server.runtime import Runtime
from perdure.server.service.call import Call

_ARCHIVAL_DISABLED = ArchivalState.Value("ARCHIVAL_STATE_DISABLED")
_NORMAL = ReplicationState.Value("REPLICATION_STATE_NORMAL")
_HANDOVER = ReplicationState.Value("REPLICATION_STATE_HANDOVER")

_NO_NAME = "Namespace not set on request."
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_BAD_BINARIES = 10
COMPLETION_SIZE_BYTES = 40 * 1024 * 1024
"""Reported limit of a paginated workflow task completion, as Temporal's server has it."""
_ALIAS_FIELD = re.compile(r"(Bool|Int|Double|Datetime|Keyword|KeywordList|Text)(0[1-9]|[1-9][0-9])")
_TYPES_BY_LABEL = {attribute_type.label: attribute_type for attribute_type in AttributeType}
_ALLOWED_STATE_CHANGES = frozenset({(REGISTERED, DEPRECATED), (REGISTERED, DELETED), (DEPRECATED, DELETED)})


class NamespaceRpcs:
    """Handlers of the RPCs on namespaces.

    Args:
        namespaces: where they are kept.
        config: cluster name, limits, capabilities, least retention.
        runtime: for ids and times.
        endpoints: a namespace that one of them leads to is not deleted.
    """

    def __init__(
        self, namespaces: Namespaces, config: ServerConfig, runtime: Runtime, endpoints: NexusEndpoints
    ) -> None:
        self._namespaces = namespaces
        self._config = config
        self._runtime = runtime
        self._endpoints = endpoints

    # --- reading ---

    async def describe_namespace(
        self, request: DescribeNamespaceRequest, call: Call
    ) -> DescribeNamespaceResponse:
        """DescribeNamespace: by name or by id."""
        return self._described(self._find(request.namespace, request.id))

    async def list_namespaces(self, request: ListNamespacesRequest, call: Call) -> ListNamespacesResponse:
        """ListNamespaces: by name, in pages; deleted ones only when asked for."""
        if request.page_size < 0:
            raise InvalidArgumentError("Invalid PageSize.")
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        after = request.next_page_token.decode(errors="replace")
        include_deleted = request.namespace_filter.include_deleted
        rows = [
            namespace
            for namespace in self._namespaces.all()
            if namespace.name > after and (include_deleted or namespace.info.state != DELETED)
        ]
        page = rows[:size]
        return ListNamespacesResponse(
            namespaces=[self._described(namespace) for namespace in page],
            next_page_token=page[-1].name.encode() if len(rows) > size else b"",
        )

    def _find(self, name: str, namespace_id: str) -> Namespace:
        if name and namespace_id:
            raise InvalidArgumentError(
                "GetNamespace operation failed.  Both ID and Name specified in request."
            )
        if not namespace_id:
            return self._named(name, ALL_STATES)
        namespace = self._namespaces.by_id(namespace_id)
        if namespace is None:
            raise NamespaceNotFoundError(namespace_id)
        return namespace

    def _named(self, name: str, states: tuple[int, ...] = OPEN_STATES) -> Namespace:
        if not name:
            raise InvalidArgumentError(_NO_NAME)
        return self._namespaces.get(name, states)

    def _described(self, namespace: Namespace) -> DescribeNamespaceResponse:
        return DescribeNamespaceResponse(
            namespace_info=self._info(namespace),
            config=_shown_config(namespace),
            replication_config=self._replication(),
        )

    def _info(self, namespace: Namespace) -> NamespaceInfo:
        info = NamespaceInfo()
        info.CopyFrom(namespace.info)
        info.id, info.name = namespace.namespace_id, namespace.name
        for field in info.capabilities.DESCRIPTOR.fields:
            setattr(info.capabilities, field.name, getattr(self._config.capabilities, field.name))
        info.limits.blob_size_limit_error = self._config.limits.blob_bytes
        info.limits.memo_size_limit_error = self._config.limits.memo_bytes
        info.limits.workflow_task_completion_size_limit_error = COMPLETION_SIZE_BYTES
        info.supports_schedules = self._config.capabilities.supports_schedules
        return info

    def _replication(self) -> NamespaceReplicationConfig:
        replication = NamespaceReplicationConfig(active_cluster_name=self._config.cluster_name, state=_NORMAL)
        replication.clusters.add(cluster_name=self._config.cluster_name)
        return replication

    # --- changing ---

    async def register_namespace(
        self, request: RegisterNamespaceRequest, call: Call
    ) -> RegisterNamespaceResponse:
        """RegisterNamespace: a new namespace of this cluster."""
        _check_name(request.namespace, self._config)
        if request.is_global_namespace:
            raise InvalidArgumentError("Cannot register global namespace when not enabled")
        self._check_retention(request.workflow_execution_retention_period)
        if self._namespaces.has(request.namespace):
            raise NamespaceAlreadyExistsError(f'Namespace "{request.namespace}" already exists')
        self._check_clusters(
            request.active_cluster_name, [cluster.cluster_name for cluster in request.clusters]
        )
        info = NamespaceInfo(
            state=REGISTERED,
            description=request.description,
            owner_email=request.owner_email,
            data=request.data,
        )
        config = new_config(0)
        config.workflow_execution_retention_ttl.CopyFrom(request.workflow_execution_retention_period)
        await self._namespaces.create(Namespace(self._runtime.new_run_id(), request.namespace, info, config))
        return RegisterNamespaceResponse()

    async def update_namespace(self, request: UpdateNamespaceRequest, call: Call) -> UpdateNamespaceResponse:
        """UpdateNamespace: what the request sets is changed, maps are merged."""
        namespace = self._named(request.namespace)
        if request.promote_namespace:
            raise InvalidArgumentError(
                "global namespace is not enabled on this cluster, cannot update global namespace or promote "
                f"local namespace: {request.namespace}"
            )
        info, config = NamespaceInfo(), NamespaceConfig()
        info.CopyFrom(namespace.info)
        config.CopyFrom(namespace.config)
        attributes = dict(namespace.search_attributes)
        if request.HasField("update_info"):
            _update_info(info, request.update_info)
        if request.HasField("config"):
            self._update_config(config, request.config)
            attributes = with_aliases(attributes, request.config.custom_search_attribute_aliases)
        if request.delete_bad_binary:
            if request.delete_bad_binary not in config.bad_binaries.binaries:
                raise InvalidArgumentError(f"Bad binary checksum {request.delete_bad_binary} doesn't exists.")
            del config.bad_binaries.binaries[request.delete_bad_binary]
        if request.HasField("replication_config"):
            self._check_replication(request.replication_config)
        changed = replace(namespace, info=info, config=config, search_attributes=attributes)
        if (info, config, attributes) != (namespace.info, namespace.config, namespace.search_attributes):
            await self._namespaces.update(changed)
        return UpdateNamespaceResponse(
            namespace_info=self._info(changed),
            config=_shown_config(changed),
            replication_config=self._replication(),
        )

    async def deprecate_namespace(
        self, request: DeprecateNamespaceRequest, call: Call
    ) -> DeprecateNamespaceResponse:
        """DeprecateNamespace: no new workflows may start in it."""
        if not request.namespace:
            raise InvalidArgumentError("Namespace not set on request.")
        namespace = self._namespaces.get(request.namespace)
        info = NamespaceInfo()
        info.CopyFrom(namespace.info)
        info.state = DEPRECATED
        await self._namespaces.update(replace(namespace, info=info))
        return DeprecateNamespaceResponse()

    async def delete_namespace(self, request: DeleteNamespaceRequest, call: Call) -> DeleteNamespaceResponse:
        """OperatorService.DeleteNamespace: frees the name at once, removes what is in it in the background.

        The row stays for the delay after that. To delete once more by the new name, or the id, is to replace the delay.
        """
        if request.namespace and request.namespace_id:
            raise InvalidArgumentError("Only one of namespace name or Id should be set on request.")
        namespace = self._find(request.namespace, request.namespace_id)
        endpoint = self._endpoints.targeting(namespace.namespace_id)
        if endpoint is not None:
            raise FailedPreconditionError(
                f"cannot delete a namespace that is a target of a Nexus endpoint {endpoint.name}"
            )
        info = NamespaceInfo()
        info.CopyFrom(namespace.info)
        info.state = DELETED
        deleted = replace(
            namespace,
            info=info,
            name=self._deleted_name(namespace),
            removal_delay_ns=self._delay_ns(request),
            removal_ns=0,
        )
        await self._namespaces.update(deleted)
        return DeleteNamespaceResponse(deleted_namespace=deleted.name)

    def _delay_ns(self, request: DeleteNamespaceRequest) -> int:
        if not request.HasField("namespace_delete_delay"):
            return round(self._config.namespace_delete_delay_s * SECOND_NS)
        return max(duration_ns(request.namespace_delete_delay), 0)

    def _deleted_name(self, namespace: Namespace) -> str:
        for length in range(SHORTEST_DELETED_SUFFIX, len(namespace.namespace_id)):
            suffix = namespace.deleted_suffix(length)
            if namespace.name.endswith(suffix):
                return namespace.name
            if not self._namespaces.has(namespace.name + suffix):
                return namespace.name + suffix
        raise FailedPreconditionError(f"no free name for deleted namespace {namespace.name}")

    # --- checks ---

    def _check_retention(self, retention: Duration) -> None:
        """Cuts a retention to the longest that durations are kept for; refuses one that is too short."""
        try:
            cap_duration(retention, "retention")
            retention_ns = duration_ns(retention)
        except InvalidArgumentError:
            retention_ns = -1
        if retention_ns < self._config.min_retention_s * SECOND_NS:
            raise InvalidArgumentError("A valid retention period is not set on request.")

    def _update_config(self, config: NamespaceConfig, update: NamespaceConfig) -> None:
        if update.HasField("workflow_execution_retention_ttl"):
            self._check_retention(update.workflow_execution_retention_ttl)
            config.workflow_execution_retention_ttl.CopyFrom(update.workflow_execution_retention_ttl)
        for checksum, binary in update.bad_binaries.binaries.items():
            stored = config.bad_binaries.binaries[checksum]
            stored.CopyFrom(binary)
            set_timestamp(stored.create_time, self._runtime.now_ns())
        # Archival fields are ignored, as they are by a cluster without an archive.
        if len(config.bad_binaries.binaries) > MAX_BAD_BINARIES:
            raise InvalidArgumentError(f"Total resetBinaries cannot exceed the max limit: {MAX_BAD_BINARIES}")

    def _check_clusters(self, active: str, clusters: list[str]) -> None:
        for name in filter(None, (active, *clusters)):
            if name != self._config.cluster_name:
                raise InvalidArgumentError(f"Invalid cluster name: {name}")
        if len(clusters) > 1:
            raise InvalidArgumentError("Invalid local namespace clusters")

    def _check_replication(self, update: NamespaceReplicationConfig) -> None:
        self._check_clusters(
            update.active_cluster_name, [cluster.cluster_name for cluster in update.clusters]
        )
        if update.state == _HANDOVER:
            raise InvalidArgumentError("Handover can only be set for global namespace")


def new_config(retention_s: float) -> NamespaceConfig:
    """The configuration of a new namespace.

    Args:
        retention_s: how long closed runs are kept, seconds.
    """
    config = NamespaceConfig(
        history_archival_state=_ARCHIVAL_DISABLED, visibility_archival_state=_ARCHIVAL_DISABLED
    )
    config.bad_binaries.SetInParent()
    set_duration(config.workflow_execution_retention_ttl, round(retention_s * SECOND_NS))
    return config


def aliases(attributes: Mapping[str, AttributeType]) -> dict[str, str]:
    """The namespace's own search attributes as its configuration shows them: column name to attribute name.

    Temporal's SQL stores have numbered columns per type, and clients show them. Here they are numbered in order of
    definition.
    """
    numbers: Counter[AttributeType] = Counter()
    shown = {}
    for name, attribute_type in attributes.items():
        numbers[attribute_type] += 1
        shown[f"{attribute_type.label}{numbers[attribute_type]:02d}"] = name
    return shown


def with_aliases(
    attributes: Mapping[str, AttributeType], update: Mapping[str, str]
) -> dict[str, AttributeType]:
    """The search attributes after an update of the aliases: a name defines, an empty text removes.

    Raises:
        InvalidArgumentError: a column is taken or is none.
    """
    current = aliases(attributes)
    changed = dict(attributes)
    for field, name in sorted(update.items()):
        column = _ALIAS_FIELD.fullmatch(field)
        if column is None:
            raise InvalidArgumentError(f"Search attribute {field} doesn't exist.")
        if not name:
            changed.pop(current.get(field, ""), None)
        elif name not in attributes:
            if field in current:
                raise InvalidArgumentError("Custom search attribute field name already allocated.")
            changed[name] = _TYPES_BY_LABEL[column[1]]
    return changed


def _shown_config(namespace: Namespace) -> NamespaceConfig:
    config = NamespaceConfig()
    config.CopyFrom(namespace.config)
    config.custom_search_attribute_aliases.clear()
    config.custom_search_attribute_aliases.update(aliases(namespace.search_attributes))
    return config


def _update_info(info: NamespaceInfo, update: UpdateNamespaceInfo) -> None:
    info.description = update.description or info.description
    info.owner_email = update.owner_email or info.owner_email
    info.data.update(update.data)
    if update.state and update.state != info.state:
        if (info.state, update.state) not in _ALLOWED_STATE_CHANGES:
            raise InvalidArgumentError("Invalid namespace state update.")
        info.state = update.state


def _check_name(name: str, config: ServerConfig) -> None:
    if not name:
        raise InvalidArgumentError(_NO_NAME)
    if len(name.encode()) > config.limits.id_bytes:
        raise InvalidArgumentError("Namespace length exceeds limit.")
