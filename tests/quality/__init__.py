"""Rules about the code itself, each checked by a machine; `checks` holds the checkers."""
