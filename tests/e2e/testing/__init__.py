"""Engines inside a process and the test environments, with real clients, workers and processes."""
