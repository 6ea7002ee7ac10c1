"""Tests of engines inside a process: addresses, sharing, lifetimes, the transport to them."""
