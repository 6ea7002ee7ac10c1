-- A task has a place in its queue's order: within a priority by place, then by arrival. The index holds the fairness key as
-- well, so that where keys end can be read from it alone.
ALTER TABLE tasks ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN fairness_key TEXT NOT NULL DEFAULT '';
ALTER TABLE tasks ADD COLUMN fairness_weight REAL NOT NULL DEFAULT 0;

DROP INDEX tasks_by_queue;
CREATE INDEX tasks_by_queue
    ON tasks (namespace, queue, kind, priority, place, sequence, enqueued_ns, fairness_key);

-- What operators set of task queues: few rows, read whole at the start.
CREATE TABLE queue_configs (
    namespace_id TEXT NOT NULL,
    queue TEXT NOT NULL,
    kind INTEGER NOT NULL,
    version INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (namespace_id, queue, kind)
) STRICT, WITHOUT ROWID;
