"""Perdure: durable execution for Python, over Temporal's public protocol.

Packages: `api` the wire contract, `core` pure state machines and languages, `store` durable storage, `server` the
engine and its doors, `cli` the command line. Imports point one way, from right to left in that list.
"""

__version__ = "0.1.0"
