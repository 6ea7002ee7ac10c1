"""The wire contract: Temporal's public messages, enums and services.

The layout is that of the official package: `perdure.api.common.v1.Payload`, `perdure.api.enums.v1.EventType`,
`perdure.api.workflowservice.v1.WorkflowServiceStub`, and under the names of the proto files as well
(`perdure.api.common.v1.message_pb2.Payload`, `perdure.api.workflowservice.v1.service_pb2_grpc`). Beside it:

  - `perdure.api.protobuf`: `Timestamp`, `Duration`, `Any`, ... of this contract (the classes in
  `google.protobuf` belong to another descriptor pool and cannot be assigned to its fields);
- `perdure.api.google.rpc`: `Status`, the carrier of error details;
- `perdure.api.registry`: the descriptor pool itself, and lookup of classes by proto name;
- `perdure.api.services`: what a server needs to know about each RPC.

May live here: what the protos say, and the code that loads it. May not: any behaviour. Everything in the
subfolders is generated when the package is built.
"""
