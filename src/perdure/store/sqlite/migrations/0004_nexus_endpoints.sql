-- The registry of Nexus endpoints: few rows, read whole at the start.
CREATE TABLE nexus_endpoints (
    endpoint_id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT, WITHOUT ROWID;
