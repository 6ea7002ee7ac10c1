-- Worker deployments: few rows, read whole at the start.
CREATE TABLE deployments (
    namespace_id TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (namespace_id, name)
) STRICT, WITHOUT ROWID;
