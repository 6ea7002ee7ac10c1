"""Orders: a model, the workflow that sees each through, its activities, and three views."""
