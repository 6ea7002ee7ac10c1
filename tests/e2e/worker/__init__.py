"""Our worker, end to end: against an embedded engine, our server and the official one."""
