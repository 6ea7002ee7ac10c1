"""Tests of the web UI: its pure parts, and every page and action in a real browser."""
