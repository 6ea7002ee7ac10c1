"""Tests of the list-filter language."""
