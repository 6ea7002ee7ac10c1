"""The load of a real application: client and worker of the official Python SDK in one process.

Run as a process of its own (`python -m benchmarks.sdk_load`); prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import uuid

from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.measure import Window
from benchmarks.sdk_workflow import Order, charge


async def run_load(
    address: str, namespace: str, concurrency: int, warmup_s: float, seconds: float, server_pid: int | None
) -> dict[str, object]:
    """Keep `concurrency` workflows in flight; measure `seconds` after `warmup_s`; finish what was begun."""
    client = await Client.connect(address, namespace=namespace)
    unique = uuid.uuid4().hex[:8]
    window, stopping = Window("sdk", concurrency, server_pid), asyncio.Event()

    async def one_after_another(number: int) -> None:
        count = 0
        while not stopping.is_set():
            count += 1
            began = time.perf_counter()
            try:
                result = await client.execute_workflow(
                    Order.run, "A-1", id=f"sdk-{unique}-{number}-{count}", task_queue=f"sdk-{unique}"
                )
            except (
                Exception
            ) as error:  # whatever the SDK raises is a failed measurement, to be reported as such
                window.error(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.1)
                continue
            if result != "charged A-1":
                window.error(f"wrong result {result!r}")
            window.completed(began)

    async with Worker(client, task_queue=f"sdk-{unique}", workflows=[Order], activities=[charge]):
        loops = [asyncio.create_task(one_after_another(number)) for number in range(concurrency)]
        await asyncio.sleep(warmup_s)
        window.open()
        await asyncio.sleep(seconds)
        outcome = window.close()
        stopping.set()
        await asyncio.gather(*loops)
    outcome.errors, outcome.error_samples = window.errors, window.error_samples
    return outcome.as_json()


def main() -> None:
    """Parse the options, run the load, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="host:port of the server")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--concurrency", type=int, default=50, help="workflows in flight")
    parser.add_argument("--warmup-s", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the measured window")
    parser.add_argument("--server-pid", type=int, help="process whose CPU and memory are reported")
    json.dump(asyncio.run(run_load(**vars(parser.parse_args()))), sys.stdout)
    print()


if __name__ == "__main__":
    main()
