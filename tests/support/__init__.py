"""Helpers shared by the test packages: starting servers and talking raw gRPC to them.

Nothing here knows a particular test. Code of the product does not belong here either: what these helpers need
from Perdure they take from its public interface, as any client would.
"""
