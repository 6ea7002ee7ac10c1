"""Unit tests of the doors."""
