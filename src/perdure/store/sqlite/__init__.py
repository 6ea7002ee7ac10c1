"""The store on one SQLite file: durable, for one process.

- `store`: the `Store` methods, thin
- `opening`: which files are accepted, the lock, pragmas, migrations (`migrations/*.sql`)
- `writer`: group commit
- `apply`: one unit's statements
- `reads`: what is read back
- `lists`: lists, counts, and filters as SQL
- `queries`: every fixed statement, by name
"""

from perdure.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
