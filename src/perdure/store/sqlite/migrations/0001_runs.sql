-- The first schema. Related rows of a run carry its run_row, a small integer given in order of arrival, so that what a
-- run writes lies close together and what many new runs write lies at the end of each table.

-- Facts about the database itself: cluster_id, opened (how often), fence (see writer.py).
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- What namespaces say of themselves. Other tables use the small number of namespace_keys, whose rows are never deleted.
CREATE TABLE namespaces (
    namespace_id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    config BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE namespace_keys (
    namespace INTEGER PRIMARY KEY,
    namespace_id TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE runs (
    run_row INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    namespace INTEGER NOT NULL,
    workflow_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    status INTEGER NOT NULL,
    last_event_id INTEGER NOT NULL,
    wakeup_ns INTEGER,
    start_request_id TEXT NOT NULL,
    first_run_id TEXT NOT NULL,
    header BLOB NOT NULL
) STRICT;

CREATE INDEX runs_by_wakeup ON runs (wakeup_ns) WHERE wakeup_ns IS NOT NULL;

-- Which runs a workflow id has; the current one has superseded = 0. The only table in the order of workflow ids.
CREATE TABLE workflow_runs (
    namespace INTEGER NOT NULL,
    workflow_id TEXT NOT NULL,
    superseded INTEGER NOT NULL,
    run_row INTEGER NOT NULL,
    PRIMARY KEY (namespace, workflow_id, superseded, run_row)
) STRICT, WITHOUT ROWID;

-- event_key = run_row << 24 | id of the batch's first event: one integer key keeps batches up to 4 kB inside their leaf
-- page, where a WITHOUT ROWID table would move everything beyond 1 kB to pages of its own.
CREATE TABLE events (
    event_key INTEGER PRIMARY KEY,
    last_event_id INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;

-- position orders items of a kind by first insertion: version << 24 | place within that version's write.
CREATE TABLE items (
    run_row INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (run_row, kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
    run_row INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    scheduled_event_id INTEGER NOT NULL,
    namespace INTEGER NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    enqueued_ns INTEGER NOT NULL,
    priority_key INTEGER NOT NULL,
    sticky INTEGER NOT NULL,
    delivery_id TEXT NOT NULL,
    PRIMARY KEY (run_row, kind, scheduled_event_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX tasks_by_queue ON tasks (namespace, queue, kind, priority, sequence, enqueued_ns);

-- What lists show. close_key is the close time, or the largest integer for an open run. attributes is a JSON object;
-- division is its TemporalNamespaceDivision.
CREATE TABLE visibility (
    run_row INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    workflow_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    workflow_type TEXT NOT NULL,
    task_queue TEXT NOT NULL,
    status INTEGER NOT NULL,
    start_time_ns INTEGER NOT NULL,
    execution_time_ns INTEGER NOT NULL,
    close_key INTEGER NOT NULL,
    history_length INTEGER NOT NULL,
    history_size_bytes INTEGER NOT NULL,
    state_transition_count INTEGER NOT NULL,
    parent_workflow_id TEXT,
    parent_run_id TEXT,
    root_workflow_id TEXT NOT NULL,
    root_run_id TEXT NOT NULL,
    memo BLOB NOT NULL,
    search_attributes BLOB NOT NULL,
    attributes TEXT NOT NULL,
    division TEXT
) STRICT;

-- The order of lists; with the status and the division (the attribute that nearly every list asks to be missing), so that
-- counting ordinary runs, by status too, needs nothing else.
CREATE INDEX visibility_in_list_order
    ON visibility (namespace, close_key DESC, start_time_ns DESC, run_id, status, division);
