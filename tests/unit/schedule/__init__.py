"""Tests of schedules: their times and what they do."""
