"""Microbenchmarks behind the design's cost assumptions, one primitive each: `python -m benchmarks.micro.NAME`.

Nothing here starts Perdure: these measure what the machine, SQLite, protobuf and grpc themselves cost.
"""
