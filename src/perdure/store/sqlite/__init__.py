"""The store on one SQLite file: durable, for one process.

- `store`: the `Store` methods, thin
- `opening`: which files are accepted, the lock, pragmas, migrations (`migrations/*.sql`)
- `writer`: group commit
- `apply`: one unit's statements
- `reads`: what is read back
- `search_index`: what leads from the values of search attributes to runs
- `lists`: lists and counts; `plans`: where they look; `columns`: filters as SQL
- `queries`: every fixed statement, by name
"""

from perdure.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
