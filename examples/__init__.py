"""Runnable examples: applications written the way a user would write them. No library code lives here."""
