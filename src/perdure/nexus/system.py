"""The endpoint at which the server itself answers Nexus operations of workflow code.

May live here: its name. May not: its operations, which workflow code calls by functions of their own
(`perdure.workflow.signal_with_start_workflow`).
"""

from __future__ import annotations

from perdure.workflow import _SYSTEM_ENDPOINT

TEMPORAL_SYSTEM_ENDPOINT = _SYSTEM_ENDPOINT
"""Its name: an interceptor meets it in `StartNexusOperationInput.endpoint`."""


def is_system_endpoint(endpoint: str) -> bool:
    """Whether the server itself answers at an endpoint.

    Args:
        endpoint: Its name.
    """
    return endpoint == TEMPORAL_SYSTEM_ENDPOINT


__all__ = ["TEMPORAL_SYSTEM_ENDPOINT", "is_system_endpoint"]
