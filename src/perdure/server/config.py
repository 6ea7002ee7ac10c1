"""What a server can be told: its names, limits, timings and capabilities; and the dynamic configuration keys it knows.

Data only. `Capabilities` is the one place that says what this server can do; everything that reports it reads it here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from perdure.core.errors import InvalidArgumentError
from perdure.core.run.limits import Limits
from perdure.server.callback_addresses import AddressRule, read_rules

COMPATIBLE_VERSION = "1.32.0"
"""The release of Temporal's server whose behaviour this one follows; clients gate features on it."""

SECOND_NS = 1_000_000_000
DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What works, as clients and workers ask for it. A feature is switched to True in the change that makes it work.

    The first group answers GetSystemInfo, the second DescribeNamespace; each name is the field's name there.
    """

    signal_and_query_header: bool = True
    internal_error_differentiation: bool = True
    activity_failure_include_heartbeat: bool = True
    supports_schedules: bool = True
    encoded_failure_attributes: bool = True
    build_id_based_versioning: bool = True
    """Build ids are recorded in histories; workers that ask for routing by them are refused."""
    upsert_memo: bool = True
    eager_workflow_start: bool = True
    sdk_metadata: bool = True
    count_group_by_execution_status: bool = True
    nexus: bool = True
    server_scaled_deployments: bool = True
    server_scaled_provider_cloud_run: bool = False

    sync_update: bool = True
    async_update: bool = True
    worker_heartbeats: bool = True
    reported_problems_search_attribute: bool = True
    workflow_pause: bool = True
    standalone_activities: bool = True
    worker_poll_complete_on_shutdown: bool = False
    """Turned on, a worker that shuts down ends its polls; off by default, as on the official server."""
    poller_autoscaling: bool = True
    worker_commands: bool = False
    standalone_nexus_operation: bool = True
    workflow_update_callbacks: bool = False
    """Turned on, callbacks that come with updates are called; off by default, as on the official server."""
    poller_autoscaling_auto_enroll: bool = False
    workflow_task_completion_pagination: bool = False
    standalone_activity_start_delay: bool = True
    standalone_activity_batch_operations: bool = True
    standalone_activity_operator_commands: bool = True


@dataclass(frozen=True, slots=True)
class Quotas:
    """How many calls each namespace may make; 0 stands for any number. More are refused with RESOURCE_EXHAUSTED.

    Attributes:
        calls_per_second: calls a second, but for those that look through lists.
        calls_burst_ratio: how many times as many may come at once.
        lists_per_second: calls a second that look through lists.
        lists_burst_ratio: how many times as many may come at once.
        waiting_calls: calls of one RPC that wait at the same time: polls, queries, updates, waits for a history.
    """

    calls_per_second: float = 0
    calls_burst_ratio: float = 2
    lists_per_second: float = 0
    lists_burst_ratio: float = 1
    waiting_calls: int = 0


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Everything a server can be told.

    Attributes:
        host, port: where the gRPC door listens; port 0 takes a free one.
        http_port: where the HTTP door listens, on the same host; 0 takes a free one, None opens none.
        http_allowed_hosts: patterns (`*` stands for anything) of what the Host header of HTTP requests may be.
        namespaces: created at start beside `default`.
        search_attributes: name to type number (see AttributeType), added to those namespaces at start.
        cluster_name, server_version: what the cluster says of itself.
        capabilities: what works.
        limits: limits of one run.
        quotas: how many calls each namespace may make.
        long_poll_s: seconds a worker's poll waits before its empty answer.
        history_wait_s: seconds a history long poll waits before its empty answer.
        query_wait_s: seconds a query waits for a worker at most, when its caller sets no deadline.
        history_page_batches: most batches of events (written together) of one history page.
        list_page_size: most rows of one list page, and how many a request gets that asks for none.
        retention_s: retention of the namespaces made at start, seconds.
        min_retention_s: least retention a namespace may have, seconds.
        namespace_delete_delay_s: seconds that a deleted namespace's row stays once everything in it is
            removed, when the request to delete it does not say.
        max_receive_bytes: largest request message, bytes.
        min_ping_interval_s: a client that pings more often than this is disconnected.
        max_concurrent_calls: calls under way at once, long polls included; more are refused.
        cached_runs: runs the engine keeps in memory.
        callback_addresses: addresses that completion callbacks may have, beside those of this server.
        callback_template: where Nexus handlers that are reached by URL complete operations; `{{.NamespaceName}}` and
            `{{.NamespaceID}}` stand for the caller's namespace. Empty for this server's own HTTP door, if it has one.
        records_nexus_cancellations: events say what came of requests to cancel Nexus operations.
        time_skipping: serves TestService and moves the clock on as it says; for tests only. The namespaces made at
            start then keep closed runs, however far the clock moves.
    """

    host: str = "127.0.0.1"
    port: int = 7233
    http_port: int | None = None
    http_allowed_hosts: tuple[str, ...] = ("*",)
    namespaces: tuple[str, ...] = ()
    search_attributes: Mapping[str, int] = field(default_factory=dict)
    cluster_name: str = "active"
    server_version: str = COMPATIBLE_VERSION
    capabilities: Capabilities = field(default_factory=Capabilities)
    limits: Limits = field(default_factory=Limits)
    quotas: Quotas = field(default_factory=Quotas)
    long_poll_s: float = 60.0
    history_wait_s: float = 20.0
    query_wait_s: float = 20.0
    history_page_batches: int = 256
    list_page_size: int = 1000
    retention_s: float = DAY_S
    min_retention_s: float = 3600.0
    namespace_delete_delay_s: float = 0.0
    max_receive_bytes: int = 4 * 1024 * 1024
    min_ping_interval_s: float = 10.0
    max_concurrent_calls: int = 20_000
    cached_runs: int = 4_000
    time_skipping: bool = False
    records_nexus_cancellations: bool = True
    callback_addresses: tuple[AddressRule, ...] = ()
    callback_template: str = ""


def _integer(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("it must be a whole number, 0 or more")
    return value


def _positive(value: Any) -> int:
    number = _integer(value)
    if number == 0:
        raise ValueError("it must be a whole number, 1 or more")
    return number


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("it must be true or false")


def _callback_template(value: Any) -> str:
    if value == "unset":
        return ""
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        return value
    raise ValueError(
        'it must be an address such as "https://example.com/namespaces/{{.NamespaceName}}/nexus/callback"'
    )


def _patterns(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("it must be a list of texts, in which * stands for anything")
    return tuple(value)


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ValueError("it must be a number, 0 or more; 1 is the whole")
    return float(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError("it must be a number, 0 or more; 0 stands for no limit")
    return float(value)


def _ratio(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value < math.inf:
        raise ValueError("it must be a number, 1 or more")
    return float(value)


_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h|d)")


def _seconds(value: Any) -> float:
    """A number of seconds, or a text such as `1m30s`."""
    if isinstance(value, str):
        parts = _PART.findall(value)
        if "".join(number + unit for number, unit in parts) == value and parts:
            return float(sum(float(number) * _UNIT_S[unit] for number, unit in parts))
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
            return float(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise ValueError('it must be a duration such as "20s"')


def _nanoseconds(value: Any) -> int:
    return round(_seconds(value) * SECOND_NS)


Reader = Callable[[Any], Any]

_SERVER_KEYS: Mapping[str, tuple[str, Reader]] = {
    "matching.longPollExpirationInterval": ("long_poll_s", _seconds),
    "history.longPollExpirationInterval": ("history_wait_s", _seconds),
    "frontend.historyMaxPageSize": ("history_page_batches", _positive),
    "frontend.visibilityMaxPageSize": ("list_page_size", _positive),
    "frontend.keepAliveMinTime": ("min_ping_interval_s", _seconds),
    "system.namespaceMinRetentionLocal": ("min_retention_s", _seconds),
    "frontend.deleteNamespaceNamespaceDeleteDelay": ("namespace_delete_delay_s", _seconds),
    "history.cacheMaxSize": ("cached_runs", _positive),
    "frontend.httpAllowedHosts": ("http_allowed_hosts", _patterns),
    "component.callbacks.allowedAddresses": ("callback_addresses", read_rules),
    "callback.allowedAddresses": ("callback_addresses", read_rules),
    "component.nexusoperations.callback.endpoint.template": ("callback_template", _callback_template),
    "nexusoperation.callback.endpoint.template": ("callback_template", _callback_template),
    "component.nexusoperations.recordCancelRequestCompletionEvents": ("records_nexus_cancellations", _flag),
}
"""Dynamic configuration keys: field of `ServerConfig` and how to read the value."""

_LIMIT_KEYS: Mapping[str, tuple[str, Reader]] = {
    "limit.blobSize.error": ("blob_bytes", _integer),
    "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute": ("task_failures_reported", _integer),
    "limit.memoSize.error": ("memo_bytes", _integer),
    "limit.maxIDLength": ("id_bytes", _integer),
    "limit.historyCount.error": ("history_events", _integer),
    "limit.historySize.error": ("history_bytes", _integer),
    "limit.mutableStateSize.error": ("state_bytes", _integer),
    "limit.historyCount.suggestContinueAsNew": ("suggest_continue_as_new_events", _integer),
    "limit.historySize.suggestContinueAsNew": ("suggest_continue_as_new_bytes", _integer),
    "limit.numPendingActivities.error": ("pending_activities", _integer),
    "limit.numPendingChildExecutions.error": ("pending_children", _integer),
    "limit.numPendingSignals.error": ("pending_external_signals", _integer),
    "limit.numPendingCancelRequests.error": ("pending_external_cancels", _integer),
    "component.nexusoperations.limit.operation.concurrency": ("pending_nexus_operations", _integer),
    "component.nexusoperations.limit.service.name.length": ("nexus_name_bytes", _integer),
    "component.nexusoperations.limit.header.size": ("nexus_header_bytes", _integer),
    "component.nexusoperations.limit.operation.token.length": ("nexus_token_bytes", _integer),
    "component.nexusoperations.request.timeout": ("nexus_request_ns", _nanoseconds),
    "component.nexusoperations.limit.request.timeout.min": ("nexus_least_request_ns", _nanoseconds),
    "callback.maxPerExecution": ("callbacks", _integer),
    "frontend.callbackURLMaxLength": ("callback_url_bytes", _integer),
    "frontend.callbackHeaderMaxLength": ("callback_header_bytes", _integer),
    "history.maximumSignalsPerExecution": ("signals", _integer),
    "history.MaxBufferedQueryCount": ("buffered_queries", _positive),
    "history.maximumBufferedEventsBatch": ("buffered_events", _integer),
    "history.maxInFlightUpdates": ("updates_in_flight", _integer),
    "history.maxInFlightUpdatePayloads": ("updates_in_flight_bytes", _integer),
    "history.maxTotalUpdates": ("updates_total", _integer),
    "history.maxTotalUpdates.suggestContinueAsNewThreshold": ("updates_suggest_continue_as_new", _share),
    "history.maximumBufferedEventsSizeInBytes": ("buffered_bytes", _integer),
    "limit.mutableStateActivityFailureSize.error": ("stored_failure_bytes", _integer),
    "history.defaultWorkflowTaskTimeout": ("task_timeout_default_ns", _nanoseconds),
    "history.workflowTaskHeartbeatTimeout": ("task_heartbeat_ns", _nanoseconds),
    "frontend.searchAttributesNumberOfKeysLimit": ("search_attribute_count", _integer),
    "frontend.searchAttributesSizeOfValueLimit": ("search_attribute_value_bytes", _integer),
    "frontend.searchAttributesTotalSizeLimit": ("search_attributes_bytes", _integer),
}
"""Dynamic configuration keys: field of `Limits` and how to read the value."""

_QUOTA_KEYS: Mapping[str, tuple[str, Reader]] = {
    "frontend.namespaceRPS": ("calls_per_second", _number),
    "frontend.namespaceBurstRatio": ("calls_burst_ratio", _ratio),
    "frontend.namespaceRPS.visibility": ("lists_per_second", _number),
    "frontend.namespaceBurstRatio.visibility": ("lists_burst_ratio", _ratio),
    "frontend.namespaceCount": ("waiting_calls", _integer),
}
"""Dynamic configuration keys: field of `Quotas` and how to read the value."""

_CAPABILITY_KEYS: Mapping[str, tuple[str, Reader]] = {
    "history.enableUpdateCallbacks": ("workflow_update_callbacks", _flag),
    "frontend.enableCancelWorkerPollsOnShutdown": ("worker_poll_complete_on_shutdown", _flag),
}
"""Dynamic configuration keys: field of `Capabilities` and how to read the value."""

_KNOWN_KEYS = {
    key.lower(): (part, *entry)
    for part, keys in (
        ("", _SERVER_KEYS),
        ("limits", _LIMIT_KEYS),
        ("quotas", _QUOTA_KEYS),
        ("capabilities", _CAPABILITY_KEYS),
    )
    for key, entry in keys.items()
}


def with_dynamic_values(
    config: ServerConfig, values: Mapping[str, object]
) -> tuple[ServerConfig, tuple[str, ...]]:
    """Applies dynamic configuration values. Keys are not sensitive to case.

    Args:
        config: what to start from.
        values: key to decoded JSON value.

    Returns:
        the changed configuration, and the keys that mean nothing to this server, in order.

    Raises:
        InvalidArgumentError: a known key has a value of the wrong kind.
    """
    changed: dict[str, dict[str, Any]] = {"": {}, "limits": {}, "quotas": {}, "capabilities": {}}
    unknown: list[str] = []
    for key, value in values.items():
        entry = _KNOWN_KEYS.get(key.lower())
        if entry is None:
            unknown.append(key)
            continue
        part, name, read = entry
        try:
            changed[part][name] = read(value)
        except ValueError as error:
            raise InvalidArgumentError(f"{key}={json.dumps(value)}: {error}") from None
    parts: dict[str, Any] = {
        part: replace(getattr(config, part), **fields) for part, fields in changed.items() if part
    }
    return replace(config, **changed[""], **parts), tuple(unknown)
