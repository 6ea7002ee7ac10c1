"""Tests of the core: a run as a pure state machine, without server, store or clock."""
