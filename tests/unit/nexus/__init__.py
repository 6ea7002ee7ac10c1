"""Tests of Nexus services: what handlers are written with, without a server."""
