"""One module per part of the UI: handlers that call the server and answer with plain values for a template."""
