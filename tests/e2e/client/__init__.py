"""The client against real servers and real connections."""
