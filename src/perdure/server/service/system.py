"""RPCs about the server itself: GetSystemInfo, GetClusterInfo, and those on other clusters, of which there are none."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.api.operatorservice.v1 import (
    AddOrUpdateRemoteClusterRequest,
    AddOrUpdateRemoteClusterResponse,
    ListClustersRequest,
    ListClustersResponse,
    RemoveRemoteClusterRequest,
    RemoveRemoteClusterResponse,
)
from perdure.api.workflowservice.v1 import (
    GetClusterInfoRequest,
    GetClusterInfoResponse,
    GetSystemInfoRequest,
    GetSystemInfoResponse,
)
from perdure.core.errors import NotFoundError, UnavailableError, UnimplementedError
from perdure.server.addresses import host_and_port
from perdure.server.config import ServerConfig
from perdure.server.service.call import Call
from perdure.store.protocol import Store

SUPPORTED_CLIENTS: Mapping[str, str] = {
    "Nexus-go-sdk": "<2.0.0",
    "temporal-cli": "<2.0.0",
    "temporal-go": "<2.0.0",
    "temporal-java": "<2.0.0",
    "temporal-php": "<2.0.0",
    "temporal-server": "<2.0.0",
    "temporal-typescript": "<2.0.0",
    "temporal-ui": "<3.0.0",
}
"""Version ranges of official clients, as Temporal's server reports them."""


class System:
    """Handlers of the RPCs about the server.

    Args:
        store: for the cluster's identity.
        config: names, version, capabilities.
        store_name: what the cluster says its store is, such as `sqlite`.
    """

    def __init__(self, store: Store, config: ServerConfig, store_name: str) -> None:
        self._store = store
        self._config = config
        self._store_name = store_name
        self._system_info = GetSystemInfoResponse(server_version=config.server_version)
        capabilities = self._system_info.capabilities
        for field in capabilities.DESCRIPTOR.fields:
            setattr(capabilities, field.name, getattr(config.capabilities, field.name))

    async def get_system_info(self, request: GetSystemInfoRequest, call: Call) -> GetSystemInfoResponse:
        """GetSystemInfo: the version to be compatible with and what works."""
        answer = GetSystemInfoResponse()
        answer.CopyFrom(self._system_info)  # an answer belongs to its caller, who may sit in this process
        return answer

    async def get_cluster_info(self, request: GetClusterInfoRequest, call: Call) -> GetClusterInfoResponse:
        """GetClusterInfo: identity, names and stores."""
        return GetClusterInfoResponse(
            supported_clients=SUPPORTED_CLIENTS,
            server_version=self._config.server_version,
            cluster_id=await self._store.cluster_id(),
            cluster_name=self._config.cluster_name,
            history_shard_count=1,
            persistence_store=self._store_name,
            visibility_store=self._store_name,
            initial_failover_version=1,
            failover_version_increment=10,
        )

    async def list_clusters(self, request: ListClustersRequest, call: Call) -> ListClustersResponse:
        """OperatorService.ListClusters: this one."""
        response = ListClustersResponse()
        http_port = self._config.http_port
        response.clusters.add(
            cluster_name=self._config.cluster_name,
            cluster_id=await self._store.cluster_id(),
            address=host_and_port(self._config.host, self._config.port),
            http_address=host_and_port(self._config.host, http_port) if http_port is not None else "",
            initial_failover_version=1,
            history_shard_count=1,
            is_connection_enabled=True,
        )
        return response

    async def add_or_update_remote_cluster(
        self, request: AddOrUpdateRemoteClusterRequest, call: Call
    ) -> AddOrUpdateRemoteClusterResponse:
        """OperatorService.AddOrUpdateRemoteCluster: refused, since namespaces are kept by one server only."""
        if not request.frontend_address:
            raise UnavailableError(
                "Unable connect to remote cluster  with error: dns resolver: missing address."
            )
        raise UnimplementedError("Perdure does not replicate namespaces to other clusters")

    async def remove_remote_cluster(
        self, request: RemoveRemoteClusterRequest, call: Call
    ) -> RemoveRemoteClusterResponse:
        """OperatorService.RemoveRemoteCluster: there are none."""
        raise NotFoundError("The cluster to be deleted cannot be found in clusters cache.")
