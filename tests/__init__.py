"""Everything that checks Perdure: unit, quality, store, simulation, e2e, compat and differential tests."""
