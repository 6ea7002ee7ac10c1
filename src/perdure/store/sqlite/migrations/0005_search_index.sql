-- Search attributes by value, so that lists and counts with a filter look only where their runs are.

-- Which attributes runs have had, by name. kinds: what was ever kept under it (see search_index.py), as bits; a filter of
-- another type does not use the index.
CREATE TABLE attribute_keys (
    attribute INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    name TEXT NOT NULL,
    kinds INTEGER NOT NULL,
    UNIQUE (namespace, name)
) STRICT;

-- One row for each value, element of a list, or word of a text, in the order of lists behind it; nothing for runs without
-- search attributes. Status and division are here so that counts need nothing else.
CREATE TABLE attribute_values (
    attribute INTEGER NOT NULL,
    value ANY NOT NULL,
    close_key INTEGER NOT NULL,
    start_time_ns INTEGER NOT NULL,
    run_row INTEGER NOT NULL,
    status INTEGER NOT NULL,
    division TEXT,
    PRIMARY KEY (attribute, value, close_key DESC, start_time_ns DESC, run_row)
) STRICT, WITHOUT ROWID;

INSERT INTO attribute_keys (namespace, name, kinds)
SELECT v.namespace, a.key,
       sum(DISTINCT CASE a.type WHEN 'text' THEN 1 WHEN 'integer' THEN 4 WHEN 'real' THEN 8 WHEN 'array' THEN 32 ELSE 16 END)
FROM visibility AS v CROSS JOIN json_each(v.attributes) AS a
WHERE v.attributes <> '{}' AND a.key <> 'TemporalNamespaceDivision'
GROUP BY v.namespace, a.key;

-- Values as they are: through JSON again, numbers would lose digits.
INSERT INTO attribute_values
SELECT k.attribute, a.atom, v.close_key, v.start_time_ns, v.run_row, v.status, v.division
FROM visibility AS v CROSS JOIN json_each(v.attributes) AS a
CROSS JOIN attribute_keys AS k ON k.namespace = v.namespace AND k.name = a.key
WHERE v.attributes <> '{}' AND a.type <> 'array';

INSERT INTO attribute_values
SELECT DISTINCT k.attribute, m.value, v.close_key, v.start_time_ns, v.run_row, v.status, v.division
FROM visibility AS v CROSS JOIN json_each(v.attributes) AS a
CROSS JOIN attribute_keys AS k ON k.namespace = v.namespace AND k.name = a.key
CROSS JOIN json_each(a.value) AS m
WHERE v.attributes <> '{}' AND a.type = 'array';

-- How many runs there are of each type, status and division; kept by the triggers. A missing division is 0.
CREATE TABLE visibility_counts (
    namespace INTEGER NOT NULL,
    workflow_type TEXT NOT NULL,
    status INTEGER NOT NULL,
    division ANY NOT NULL,
    runs INTEGER NOT NULL,
    PRIMARY KEY (namespace, workflow_type, status, division)
) STRICT, WITHOUT ROWID;

INSERT INTO visibility_counts
SELECT namespace, workflow_type, status, ifnull(division, 0), count(*)
FROM visibility GROUP BY namespace, workflow_type, status, division;

CREATE TRIGGER visibility_counts_insert AFTER INSERT ON visibility BEGIN
    INSERT INTO visibility_counts VALUES (new.namespace, new.workflow_type, new.status, ifnull(new.division, 0), 1)
    ON CONFLICT DO UPDATE SET runs = runs + 1;
END;

CREATE TRIGGER visibility_counts_update AFTER UPDATE OF workflow_type, status, division ON visibility
WHEN old.status <> new.status OR old.workflow_type <> new.workflow_type OR old.division IS NOT new.division BEGIN
    UPDATE visibility_counts SET runs = runs - 1
    WHERE namespace = old.namespace AND workflow_type = old.workflow_type AND status = old.status
      AND division = ifnull(old.division, 0);
    INSERT INTO visibility_counts VALUES (new.namespace, new.workflow_type, new.status, ifnull(new.division, 0), 1)
    ON CONFLICT DO UPDATE SET runs = runs + 1;
END;

CREATE TRIGGER visibility_counts_delete AFTER DELETE ON visibility BEGIN
    UPDATE visibility_counts SET runs = runs - 1
    WHERE namespace = old.namespace AND workflow_type = old.workflow_type AND status = old.status
      AND division = ifnull(old.division, 0);
    DELETE FROM visibility_counts
    WHERE namespace = old.namespace AND workflow_type = old.workflow_type AND status = old.status
      AND division = ifnull(old.division, 0) AND runs = 0;
END;

-- What the built-in attributes that people filter by are found with. The partial ones cost nothing for most runs.
CREATE INDEX visibility_by_type ON visibility (namespace, workflow_type, close_key DESC, start_time_ns DESC);
CREATE INDEX visibility_by_status ON visibility (namespace, status, close_key DESC, start_time_ns DESC)
    WHERE status NOT IN (1, 2);
CREATE INDEX visibility_by_start ON visibility (namespace, start_time_ns);
CREATE INDEX visibility_by_parent ON visibility (namespace, parent_workflow_id) WHERE parent_workflow_id IS NOT NULL;
CREATE INDEX visibility_by_root ON visibility (namespace, root_workflow_id) WHERE root_workflow_id <> workflow_id;

-- The size of open runs, which their list row does not follow (last_event_id is their length).
ALTER TABLE runs ADD COLUMN history_size_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN transition_count INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET history_size_bytes = v.history_size_bytes, transition_count = v.state_transition_count
FROM visibility AS v WHERE v.run_row = runs.run_row;
