"""Processes of our SDK that are killed under load."""
