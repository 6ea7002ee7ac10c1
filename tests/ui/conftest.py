"""What the tests of the UI share."""
