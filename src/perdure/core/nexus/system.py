"""What the server's own Nexus endpoint offers to workflows: one service, whose operations are RPCs of the server.

Pure: which operations there are, and the request that an input holds. Serving it is `perdure.server.nexus_system`.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError

from perdure.api.common.v1 import Payload
from perdure.api.workflowservice.v1 import SignalWithStartWorkflowExecutionRequest
from perdure.core.errors import InvalidArgumentError

SERVICE: Final = "temporal.api.workflowservice.v1.WorkflowService"
SIGNAL_WITH_START: Final = "SignalWithStartWorkflowExecution"


def check(service: str, operation: str) -> None:
    """Checks that there is such an operation.

    Raises:
        InvalidArgumentError: there is not.
    """
    if service != SERVICE:
        raise InvalidArgumentError(f'service "{service}" not found')
    if operation != SIGNAL_WITH_START:
        raise InvalidArgumentError(f'operation "{operation}" not found')


def read(payload: Payload, namespace: str) -> SignalWithStartWorkflowExecutionRequest:
    """The request in an operation's input, for the caller's own namespace.

    Args:
        payload: the input, in protobuf or its JSON.
        namespace: the caller's.

    Raises:
        InvalidArgumentError: it holds something else, or says what is not the caller's to say.
    """
    request = SignalWithStartWorkflowExecutionRequest()
    encoding = payload.metadata.get("encoding", b"")
    try:
        if encoding == b"binary/protobuf":
            request.ParseFromString(payload.data)
        elif encoding in (b"json/protobuf", b"json/plain"):
            Parse(payload.data, request)
        else:
            raise InvalidArgumentError("failed to decode input payload: it has no encoding of a message")
    except (DecodeError, ParseError, RecursionError) as error:
        raise InvalidArgumentError(f"failed to decode input payload: {error}") from error
    if request.namespace and request.namespace != namespace:
        raise InvalidArgumentError(
            f'Namespace in request "{request.namespace}" does not match namespace in context "{namespace}"'
        )
    if request.request_id:
        raise InvalidArgumentError("RequestID should not be set on the request")
    if request.links:
        raise InvalidArgumentError("Links should not be set on the request")
    if not request.signal_name:
        raise InvalidArgumentError("signal not set")
    if not request.workflow_type.name:
        raise InvalidArgumentError("workflow type not set")
    request.namespace = namespace
    return request
