"""Fixtures of the compatibility tests."""

from __future__ import annotations

from tests.e2e.conftest import shared_server

__all__ = ["shared_server"]
