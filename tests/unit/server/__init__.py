"""Tests of the server's parts, without a process of their own."""
