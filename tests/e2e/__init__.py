"""End-to-end tests: real processes, real sockets, clients that know nothing of this server's insides."""
