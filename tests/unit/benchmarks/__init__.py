"""Tests of the load generators: a wrong generator would make every published figure wrong."""
