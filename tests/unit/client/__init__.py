"""The client and its parts, without a server."""
