"""The run between history and code: each machine, the run as a whole, random workflows, changed code."""
