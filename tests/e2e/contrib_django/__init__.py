"""Tests of perdure.contrib.django; `cases` runs under Django's own test runner."""
