"""Other people's clients against the server: the official command line, other languages' SDKs, their own suite."""
