"""Where Perdure keeps everything: one protocol whose methods are whole transactions, and its implementations.

- `protocol`: what a store is; the language is that of `perdure.core.run.records`
- `memory`: the model, simple and obviously right; also the store of a server without a database file
- `sqlite`: one durable file
- `faults`: a wrapper that makes any store fail where a test wants it to
- `checks`, `cursor`: what all stores share

Nothing here knows what the bytes it keeps mean, and nothing here imports the server.
"""
