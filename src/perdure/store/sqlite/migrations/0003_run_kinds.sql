-- Runs of a workflow (run_kind 0) and of a standalone activity (1) have ids, current runs and lists of their own: so a
-- namespace has a small number for each kind of run. Task queues belong to the first.
CREATE TABLE namespace_kinds (
    namespace INTEGER PRIMARY KEY,
    namespace_id TEXT NOT NULL,
    run_kind INTEGER NOT NULL,
    UNIQUE (namespace_id, run_kind)
) STRICT;

INSERT INTO namespace_kinds (namespace, namespace_id, run_kind)
SELECT namespace, namespace_id, 0 FROM namespace_keys;

DROP TABLE namespace_keys;
ALTER TABLE namespace_kinds RENAME TO namespace_keys;
