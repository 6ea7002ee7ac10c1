"""The UI in a real browser, on one server with one worker: every page and every action."""
