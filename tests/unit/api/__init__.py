"""Tests of the generated wire contract."""
