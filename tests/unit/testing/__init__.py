"""Tests of what Perdure gives to tests."""
