"""Workflow definitions and workflow code under execution."""
