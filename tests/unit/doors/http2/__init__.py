"""Unit tests of the HTTP/2 door: everything that needs no socket and no clock."""
