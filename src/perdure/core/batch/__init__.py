"""Batch operations: one operation on many executions. Pure: what is refused, what follows for each, what is kept.

- `state`: a job as it is stored
- `operations`: the table of operations: what each needs, and the requests that it makes

May not live here: lists, waiting, stores.
"""
