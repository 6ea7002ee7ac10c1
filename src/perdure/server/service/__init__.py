"""The service handlers: requests checked and turned into engine calls, answers built. No transport, SQL or state."""
