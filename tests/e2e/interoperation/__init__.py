"""Our SDK and the official one share workflows, histories and servers."""
