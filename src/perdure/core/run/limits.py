"""The limits a run is held to, with Temporal's defaults (server 1.32). One place; everything else takes a `Limits`."""

from __future__ import annotations

from dataclasses import dataclass

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one run. Sizes in bytes, times in nanoseconds."""

    blob_bytes: int = 2 * 1024 * 1024
    memo_bytes: int = 2 * 1024 * 1024
    id_bytes: int = 1000
    history_events: int = 51_200
    history_bytes: int = 50 * 1024 * 1024
    state_bytes: int = 8 * 1024 * 1024
    """Of a run's state beside its history: of what the heartbeats of its pending activities left there."""
    suggest_continue_as_new_events: int = 4_096
    suggest_continue_as_new_bytes: int = 4 * 1024 * 1024
    pending_activities: int = 2_000
    pending_children: int = 2_000
    pending_external_signals: int = 2_000
    pending_external_cancels: int = 2_000
    signals: int = 10_000
    buffered_queries: int = 1
    """Queries that wait for a workflow task, or are with it."""
    buffered_events: int = 100
    buffered_bytes: int = 2 * 1024 * 1024
    stored_failure_bytes: int = 4 * 1024
    kept_failure_bytes: int = 512 * 1024
    """How much is kept of a failure above `blob_bytes`."""
    task_timeout_default_ns: int = 10 * SECOND_NS
    task_timeout_max_ns: int = 120 * SECOND_NS
    task_heartbeat_ns: int = 30 * MINUTE_NS
    chain_interval_ns: int = SECOND_NS
    """Runs of a chain begin their work at least so far apart."""
    pending_nexus_operations: int = 30
    nexus_name_bytes: int = 1000
    """Of a Nexus service's or operation's name."""
    nexus_header_bytes: int = 8192
    nexus_token_bytes: int = 4096
    """Of a Nexus operation's token."""
    nexus_request_ns: int = 10 * SECOND_NS
    """How long a request to a Nexus handler, or a callback, may take."""
    nexus_least_request_ns: int = 3 * SECOND_NS // 2
    """An operation that has less time left is not asked any more: it times out."""
    callbacks: int = 2_000
    update_callbacks: bool = False
    """Whether callbacks that come with updates are called; they are in the history anyway."""
    callback_url_bytes: int = 1000
    callback_header_bytes: int = 8192
    updates_in_flight: int = 10
    updates_in_flight_bytes: int = 20 * 1024 * 1024
    updates_total: int = 2_000
    updates_suggest_continue_as_new: float = 0.9
    """The share of `updates_total` from which on a run is advised to continue as new."""
    discarded_events: int = 10
    """How many events a speculative workflow task may show its worker and still be dropped without a trace."""
    speculative_task_start_ns: int = 5 * SECOND_NS
    task_failures_reported: int = 5
    """After so many failed workflow tasks in a row a run's problems are shown in its search attributes; 0: never."""
    search_attribute_count: int = 100
    search_attribute_value_bytes: int = 2 * 1024
    search_attributes_bytes: int = 40 * 1024
