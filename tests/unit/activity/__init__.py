"""Activity definitions and context."""
