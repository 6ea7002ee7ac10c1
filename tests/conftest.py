"""What holds for every test: skips are failures where nothing may be skipped, Hypothesis stays bounded."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ("tests.no_skip", "pytester")

# Two cores run everything at once, so a slow example says nothing; the example count is what bounds a test.
settings.register_profile("perdure", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "perdure"))
