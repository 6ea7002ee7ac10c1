-- Batch operations. close_key is the close time, or the largest integer for an open job; entry is what lists show, data the
-- whole state.
CREATE TABLE batches (
    batch_row INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    start_time_ns INTEGER NOT NULL,
    close_key INTEGER NOT NULL,
    entry BLOB NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (namespace, job_id)
) STRICT;

CREATE INDEX batches_in_list_order ON batches (namespace, close_key DESC, start_time_ns DESC, job_id);
