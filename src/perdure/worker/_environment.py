"""What all parts of one worker share: its client, names and options. Data, and nothing that acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perdure.api.deployment.v1 import WorkerDeploymentOptions

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.common import MetricMeter
    from perdure.converter import DataConverter
    from perdure.converter._payload_limits import PayloadSizeLimits
    from perdure.worker._interceptor import Interceptor
    from perdure.worker._metrics import WorkerMetrics


@dataclass
class Environment:
    """What all parts of one worker share.

    Attributes:
        client: May be replaced while the worker runs.
        namespace: Of the client.
        task_queue: That the worker polls.
        identity: Under which the worker polls.
        build_id: Of the worker's code.
        deployment: For requests; None without a deployment.
        metrics: Of the worker itself; None if nobody looks at them.
        payload_limits: Sizes that the server accepts; None to leave the check to it.
        uses_build_id_versioning: The older, deprecated kind of versioning.
        default_versioning_behavior: For workflows that do not say.
        instance_key: Names this worker object among all others.
        data_converter: Of the client.
        interceptors: Of the client and the worker, outermost first.
        metric_meter: For metrics of activities and workflows.
        encode_headers: Whether the payload codec sees headers of activities too.
        encode_workflow_headers: Whether it sees headers of workflows too.
        max_heartbeat_throttle_s: Longest time for which heartbeats are held back.
        default_heartbeat_throttle_s: The same for activities without a heartbeat timeout.
        storage_concurrency: Operations of external storage at once, per workflow task.
        capabilities: Of the namespace; None until they are known.
    """

    client: Client
    namespace: str
    task_queue: str
    identity: str
    build_id: str
    deployment: WorkerDeploymentOptions | None
    instance_key: str
    data_converter: DataConverter
    interceptors: Sequence[Interceptor]
    metric_meter: MetricMeter
    encode_headers: bool = False
    encode_workflow_headers: bool = False
    metrics: WorkerMetrics | None = None
    payload_limits: PayloadSizeLimits | None = None
    uses_build_id_versioning: bool = False
    default_versioning_behavior: int = 0
    max_heartbeat_throttle_s: float = 60.0
    default_heartbeat_throttle_s: float = 30.0
    storage_concurrency: int = 3
    capabilities: Any = field(default=None)

    @property
    def version_stamp(self) -> Any:
        """What says in requests which code answers."""
        return {"build_id": self.build_id, "use_versioning": self.uses_build_id_versioning}

    @property
    def service(self) -> Any:
        """The calls of the workflow service, through the current client."""
        return self.client.service_client.worker_service_client.workflow_service
