"""Workflow code replays as it ran; changed code is noticed."""
