"""Stores: one conformance suite that runs on every implementation, and what only a durable one must show."""
