"""Every fixed SQL statement of the store, by name. Parameters are positional, in the order of the
placeholders."""

from __future__ import annotations

from typing import Final

EVENT_ID_BITS: Final = 24
"""Low bits of `events.event_key` that hold the first event's id; the rest is the run's row."""

# --- the database itself

READ_META: Final = "SELECT value FROM meta WHERE name = ?"
WRITE_META: Final = (
    "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
BUMP_META: Final = """
INSERT INTO meta (name, value) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value
"""

# --- namespaces

FIND_NAMESPACE_KEY: Final = "SELECT namespace FROM namespace_keys WHERE namespace_id = ? AND run_kind = ?"
ADD_NAMESPACE_KEY: Final = "INSERT INTO namespace_keys (namespace_id, run_kind) VALUES (?, ?)"
LIST_NAMESPACES: Final = "SELECT namespace_id, name, version, config FROM namespaces ORDER BY name"
FIND_NAMESPACE_VERSION: Final = "SELECT version FROM namespaces WHERE namespace_id = ?"
FIND_NAMESPACE_NAMED: Final = "SELECT 1 FROM namespaces WHERE name = ? AND namespace_id <> ?"
PUT_NAMESPACE: Final = (
    "INSERT OR REPLACE INTO namespaces (namespace_id, name, version, config) VALUES (?, ?, ?, ?)"
)
DELETE_NAMESPACE: Final = "DELETE FROM namespaces WHERE namespace_id = ?"

# --- writing a run

FIND_RUN_ROW: Final = "SELECT run_row FROM runs WHERE run_id = ? AND workflow_id = ? AND namespace = ?"
FIND_RUN_VERSION: Final = (
    "SELECT version, last_event_id FROM runs WHERE run_id = ? AND workflow_id = ? AND namespace = ?"
)
INSERT_RUN: Final = """
INSERT INTO runs (run_id, namespace, workflow_id, version, status, last_event_id, wakeup_ns,
                  start_request_id, first_run_id, header, history_size_bytes, transition_count)
VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id) DO NOTHING
"""
UPDATE_RUN: Final = """
UPDATE runs SET version = version + 1, status = ?, wakeup_ns = ?, header = ?, history_size_bytes = ?,
    transition_count = ?
WHERE run_row = ? AND version = ?
"""
UPDATE_RUN_APPENDING: Final = """
UPDATE runs SET version = version + 1, status = ?, wakeup_ns = ?, header = ?, history_size_bytes = ?,
    transition_count = ?, last_event_id = ?
WHERE run_row = ? AND version = ? AND last_event_id = ?
"""
INSERT_EVENTS: Final = "INSERT INTO events (event_key, last_event_id, data) VALUES (?, ?, ?)"
PUT_ITEM: Final = """
INSERT INTO items (run_row, kind, key, position, data) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run_row, kind, key) DO UPDATE SET data = excluded.data
"""
DELETE_ITEM: Final = "DELETE FROM items WHERE run_row = ? AND kind = ? AND key = ?"
PUT_TASK: Final = """
INSERT OR REPLACE INTO tasks (run_row, kind, scheduled_event_id, namespace, queue, priority, sequence,
enqueued_ns,
                              priority_key, sticky, delivery_id, place, fairness_key, fairness_weight)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
DELETE_TASK: Final = "DELETE FROM tasks WHERE run_row = ? AND kind = ? AND scheduled_event_id = ?"
PUT_VISIBILITY: Final = """
INSERT INTO visibility (run_row, namespace, workflow_id, run_id, workflow_type, task_queue, status,
start_time_ns,
                        execution_time_ns, close_key, history_length, history_size_bytes,
                        state_transition_count, parent_workflow_id, parent_run_id, root_workflow_id,
                        root_run_id, memo, search_attributes, attributes, division)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_row) DO UPDATE SET
    workflow_type = excluded.workflow_type, task_queue = excluded.task_queue, status = excluded.status,
    start_time_ns = excluded.start_time_ns, execution_time_ns = excluded.execution_time_ns,
    close_key = excluded.close_key, history_length = excluded.history_length,
    history_size_bytes = excluded.history_size_bytes, state_transition_count = excluded.state_transition_count,
    parent_workflow_id = excluded.parent_workflow_id, parent_run_id = excluded.parent_run_id,
    root_workflow_id = excluded.root_workflow_id, root_run_id = excluded.root_run_id, memo = excluded.memo,
    search_attributes = excluded.search_attributes, attributes = excluded.attributes, division = excluded.division
"""

# --- search attributes by value

FIND_LIST_ROW: Final = (
    "SELECT close_key, start_time_ns, status, division, attributes FROM visibility WHERE run_row = ?"
)
SET_ATTRIBUTES: Final = "UPDATE visibility SET attributes = ? WHERE run_row = ?"
FIND_ATTRIBUTE_KEY: Final = "SELECT attribute, kinds FROM attribute_keys WHERE namespace = ? AND name = ?"
ADD_ATTRIBUTE_KEY: Final = "INSERT INTO attribute_keys (namespace, name, kinds) VALUES (?, ?, ?)"
SET_ATTRIBUTE_KINDS: Final = "UPDATE attribute_keys SET kinds = ? WHERE attribute = ?"
DELETE_ATTRIBUTE_KEY: Final = "DELETE FROM attribute_keys WHERE attribute = ?"
ADD_ATTRIBUTE_VALUE: Final = """
INSERT OR REPLACE INTO attribute_values (attribute, value, close_key, start_time_ns, run_row, status, division)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
DELETE_ATTRIBUTE_VALUE: Final = """
DELETE FROM attribute_values
WHERE attribute = ? AND value = ? AND close_key = ? AND start_time_ns = ? AND run_row = ?
"""
FIND_ATTRIBUTE_VALUES: Final = (
    "SELECT run_row, value, close_key, start_time_ns FROM attribute_values WHERE attribute = ? LIMIT ?"
)

# --- the current run of a workflow id

FIND_CURRENT: Final = """
SELECT r.run_id, r.status, r.start_request_id, r.first_run_id
FROM workflow_runs AS w CROSS JOIN runs AS r ON r.run_row = w.run_row
WHERE w.namespace = ? AND w.workflow_id = ? AND w.superseded = 0
"""
ADD_WORKFLOW_RUN: Final = (
    "INSERT INTO workflow_runs (namespace, workflow_id, superseded, run_row) VALUES (?, ?, ?, ?)"
)
SUPERSEDE_CURRENT: Final = (
    "UPDATE workflow_runs SET superseded = 1 WHERE namespace = ? AND workflow_id = ? AND superseded = 0"
)
MAKE_CURRENT: Final = """
UPDATE workflow_runs SET superseded = 0 WHERE namespace = ? AND workflow_id = ? AND superseded = 1 AND run_row = ?
"""
SET_START: Final = "UPDATE runs SET start_request_id = ?, first_run_id = ? WHERE run_row = ?"

# --- deleting a run

DELETE_EVENTS: Final = "DELETE FROM events WHERE event_key BETWEEN ? AND ?"
DELETE_WORKFLOW_RUN: Final = """
DELETE FROM workflow_runs WHERE namespace = ? AND workflow_id = ? AND superseded IN (0, 1) AND run_row = ?
"""
DELETE_BY_ROW: Final = (
    "DELETE FROM items WHERE run_row = ?",
    "DELETE FROM tasks WHERE run_row = ?",
    "DELETE FROM visibility WHERE run_row = ?",
    "DELETE FROM runs WHERE run_row = ?",
)

# --- reading

LOAD_RUN: Final = """
SELECT run_row, version, status, header, wakeup_ns FROM runs
WHERE run_id = ? AND workflow_id = ? AND namespace = ?
"""
LOAD_ITEMS: Final = "SELECT kind, key, data, position FROM items WHERE run_row = ?"
FIRST_BATCH_KEY: Final = "SELECT max(event_key) FROM events WHERE event_key BETWEEN ? AND ?"
READ_EVENTS: Final = """
SELECT event_key, last_event_id, data FROM events WHERE event_key >= ? AND event_key < ? ORDER BY event_key
"""
READ_EVENTS_REVERSE: Final = """
SELECT event_key, last_event_id, data FROM events WHERE event_key >= ? AND event_key < ? ORDER BY event_key DESC
"""
DUE_WAKEUPS: Final = """
SELECT r.wakeup_ns, n.namespace_id, r.workflow_id, r.run_id, n.run_kind
FROM runs AS r CROSS JOIN namespace_keys AS n ON n.namespace = r.namespace
WHERE r.wakeup_ns BETWEEN ? AND ?
  AND (r.wakeup_ns > ? OR (n.namespace_id, r.workflow_id, r.run_id, n.run_kind) > (?, ?, ?, ?))
ORDER BY r.wakeup_ns, n.namespace_id, r.workflow_id, r.run_id, n.run_kind
LIMIT ?
"""
READ_TASKS: Final = """
SELECT t.priority, t.place, t.sequence, r.workflow_id, r.run_id, n.run_kind, t.scheduled_event_id,
       t.enqueued_ns, t.priority_key, t.sticky, t.delivery_id, t.fairness_key, t.fairness_weight
FROM tasks AS t CROSS JOIN runs AS r ON r.run_row = t.run_row
CROSS JOIN namespace_keys AS n ON n.namespace = r.namespace
WHERE t.namespace = ? AND t.queue = ? AND t.kind = ? AND (t.priority, t.place, t.sequence) > (?, ?, ?)
ORDER BY t.priority, t.place, t.sequence
LIMIT ?
"""
COUNT_TASKS: Final = """
SELECT priority, count(*), min(enqueued_ns) FROM tasks WHERE namespace = ? AND queue = ? AND kind = ?
GROUP BY priority ORDER BY priority
"""
FIRST_PLACE: Final = """
SELECT place FROM tasks WHERE namespace = ? AND queue = ? AND kind = ? AND priority = ?
ORDER BY place, sequence LIMIT 1
"""
LAST_PLACES: Final = """
SELECT fairness_key, max(place)
FROM (SELECT fairness_key, place FROM tasks WHERE namespace = ? AND queue = ? AND kind = ? AND priority = ?
      ORDER BY place DESC, sequence DESC LIMIT ?)
GROUP BY fairness_key
"""

# --- schedules

FIND_SCHEDULE_VERSION: Final = "SELECT version FROM schedules WHERE namespace = ? AND schedule_id = ?"
PUT_SCHEDULE: Final = """
INSERT INTO schedules (namespace, schedule_id, version, wakeup_ns, entry, data) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (namespace, schedule_id) DO UPDATE
SET version = excluded.version, wakeup_ns = excluded.wakeup_ns, entry = excluded.entry, data = excluded.data
"""
DELETE_SCHEDULE: Final = "DELETE FROM schedules WHERE namespace = ? AND schedule_id = ?"
LOAD_SCHEDULE: Final = (
    "SELECT version, wakeup_ns, entry, data FROM schedules WHERE namespace = ? AND schedule_id = ?"
)
DUE_SCHEDULES: Final = """
SELECT s.wakeup_ns, n.namespace_id, s.schedule_id
FROM schedules AS s CROSS JOIN namespace_keys AS n ON n.namespace = s.namespace
WHERE s.wakeup_ns BETWEEN ? AND ? AND (s.wakeup_ns > ? OR (n.namespace_id, s.schedule_id) > (?, ?))
ORDER BY s.wakeup_ns, n.namespace_id, s.schedule_id
LIMIT ?
"""
LIST_SCHEDULES: Final = """
SELECT schedule_id, entry FROM schedules WHERE namespace = ? AND schedule_id > ? ORDER BY schedule_id LIMIT ?
"""

# --- batch operations

FIND_BATCH_VERSION: Final = "SELECT version FROM batches WHERE namespace = ? AND job_id = ?"
PUT_BATCH: Final = """
INSERT INTO batches (namespace, job_id, version, start_time_ns, close_key, entry, data) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (namespace, job_id) DO UPDATE
SET version = excluded.version, start_time_ns = excluded.start_time_ns, close_key = excluded.close_key,
    entry = excluded.entry, data = excluded.data
"""
DELETE_BATCH: Final = "DELETE FROM batches WHERE namespace = ? AND job_id = ?"
LOAD_BATCH: Final = (
    "SELECT version, start_time_ns, close_key, entry, data FROM batches WHERE namespace = ? AND job_id = ?"
)
LIST_BATCHES: Final = """
SELECT close_key, start_time_ns, job_id, entry FROM batches
WHERE namespace = ? AND close_key <= ? AND (-close_key, -start_time_ns, job_id) > (?, ?, ?)
ORDER BY close_key DESC, start_time_ns DESC, job_id LIMIT ?
"""

# --- Nexus endpoints

LIST_ENDPOINTS: Final = "SELECT endpoint_id, name, version, data FROM nexus_endpoints ORDER BY endpoint_id"
FIND_ENDPOINT_VERSION: Final = "SELECT version FROM nexus_endpoints WHERE endpoint_id = ?"
FIND_OTHER_ENDPOINT: Final = "SELECT 1 FROM nexus_endpoints WHERE endpoint_id <> ? AND name = ?"
PUT_ENDPOINT: Final = """
INSERT INTO nexus_endpoints (endpoint_id, name, version, data) VALUES (?, ?, ?, ?)
ON CONFLICT (endpoint_id) DO UPDATE SET name = excluded.name, version = excluded.version, data = excluded.data
"""
DELETE_ENDPOINT: Final = "DELETE FROM nexus_endpoints WHERE endpoint_id = ?"


# --- worker deployments

LIST_DEPLOYMENTS: Final = (
    "SELECT namespace_id, name, version, data FROM deployments ORDER BY namespace_id, name"
)
FIND_DEPLOYMENT_VERSION: Final = "SELECT version FROM deployments WHERE namespace_id = ? AND name = ?"
PUT_DEPLOYMENT: Final = """
INSERT INTO deployments (namespace_id, name, version, data) VALUES (?, ?, ?, ?)
ON CONFLICT (namespace_id, name) DO UPDATE SET version = excluded.version, data = excluded.data
"""
DELETE_DEPLOYMENT: Final = "DELETE FROM deployments WHERE namespace_id = ? AND name = ?"

# --- configurations of task queues

LIST_QUEUE_CONFIGS: Final = (
    "SELECT namespace_id, queue, kind, version, data FROM queue_configs ORDER BY namespace_id, queue, kind"
)
FIND_QUEUE_CONFIG_VERSION: Final = (
    "SELECT version FROM queue_configs WHERE namespace_id = ? AND queue = ? AND kind = ?"
)
PUT_QUEUE_CONFIG: Final = """
INSERT INTO queue_configs (namespace_id, queue, kind, version, data) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (namespace_id, queue, kind) DO UPDATE SET version = excluded.version, data = excluded.data
"""
DELETE_QUEUE_CONFIG: Final = "DELETE FROM queue_configs WHERE namespace_id = ? AND queue = ? AND kind = ?"
