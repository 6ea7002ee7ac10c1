"""The clients of the application on Restate: invocations through its server's ingress, over HTTP/1.1."""

from __future__ import annotations

import asyncio
import json

from benchmarks.applications.loop import arguments, drive

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def call(connection: Connection, host: str, path: str, key: str, body: bytes) -> bytes:
    """One POST on a kept connection."""
    reader, writer = connection
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"idempotency-key: {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    fields = answer.decode().lower().split("\r\n")
    length = next((int(field.split(":")[1]) for field in fields if field.startswith("content-length:")), 0)
    content = await reader.readexactly(length)
    if " 200 " not in fields[0]:
        raise RuntimeError(f"{fields[0]}: {content[:200]!r}")
    return content


async def main() -> None:
    """Runs the load."""
    options = arguments(__doc__)
    host, _, port = options.address.partition(":")
    idle: list[Connection] = []

    async def run_one(workflow_id: str, steps: int) -> str:
        connection = idle.pop() if idle else await asyncio.open_connection(host, int(port))
        body = json.dumps({"steps": steps}).encode()
        result: str = json.loads(await call(connection, host, "/Orders/place", workflow_id, body))
        idle.append(connection)
        return result

    await drive(run_one, options)


if __name__ == "__main__":
    asyncio.run(main())
