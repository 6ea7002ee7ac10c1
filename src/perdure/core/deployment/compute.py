"""Compute configurations of worker versions: what a server says of one that can start no workers itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from perdure.api.compute.v1 import ComputeConfigScalingGroup
from perdure.core.errors import InvalidArgumentError

PROVIDERS: Final = frozenset({"aws-ecs", "aws-lambda", "gcp-cloud-run", "subprocess", "test-invoke"})
"""Types of providers that Temporal's server knows. None can be used here, as there without its controller."""


def check_groups(groups: Mapping[str, ComputeConfigScalingGroup]) -> None:
    """Checks what is to start workers.

    Raises:
        InvalidArgumentError: nothing here can.
    """
    for name, group in sorted(groups.items()):
        kind = group.provider.type
        if kind not in PROVIDERS:
            raise InvalidArgumentError(f"entry {name}: invalid compute provider type '{kind}'")
    for name, group in sorted(groups.items()):
        raise InvalidArgumentError(
            f"{name}: Could not instantiate compute provider with type '{group.provider.type}'"
        )
