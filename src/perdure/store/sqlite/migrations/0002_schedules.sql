-- Schedules: entry is what lists show, data the whole state. entry comes first, so that a list does not read the data.
CREATE TABLE schedules (
    schedule_row INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    schedule_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    wakeup_ns INTEGER,
    entry BLOB NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (namespace, schedule_id)
) STRICT;

CREATE INDEX schedules_by_wakeup ON schedules (wakeup_ns) WHERE wakeup_ns IS NOT NULL;
