"""Common types, exceptions and data conversion of the SDK."""
