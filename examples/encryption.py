"""End-to-end encryption: the server, its database and its backups hold nothing that can be read without the keys.

A payload codec encrypts everything that leaves the process (arguments, results, signals, memos, failures) with AES-GCM
and names the key, so that keys can be changed while workflows run. Needs `cryptography`; run `python -m
examples.encryption`. Keys come from a secret store in earnest, never from source text.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from perdure import activity, workflow
from perdure.api.common.v1 import Payload
from perdure.client import Client
from perdure.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec
from perdure.worker import Worker

TASK_QUEUE = "payroll"
ENCODING = b"binary/encrypted"
NONCE_BYTES = 12


class EncryptionCodec(PayloadCodec):
    """Encrypts payloads with the newest key and decrypts them with the one they name.

    Args:
        keys: 32 bytes each, by id; the last one encrypts. Keep old ones for as long as histories need them.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {key_id.encode(): AESGCM(key) for key_id, key in keys.items()}
        self._newest = next(reversed(self._ciphers))

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypts whole payloads, so that not even their types can be seen."""
        return [self._encrypted(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypts; payloads from before encryption was switched on stay as they are."""
        return [
            self._decrypted(payload) if payload.metadata.get("encoding") == ENCODING else payload
            for payload in payloads
        ]

    def _encrypted(self, payload: Payload) -> Payload:
        nonce = os.urandom(NONCE_BYTES)
        # The key's id is authenticated too: nobody can make a payload name another key.
        secret = self._ciphers[self._newest].encrypt(nonce, payload.SerializeToString(), self._newest)
        metadata = {"encoding": ENCODING, "encryption-key-id": self._newest}
        return Payload(metadata=metadata, data=nonce + secret)

    def _decrypted(self, payload: Payload) -> Payload:
        key_id = payload.metadata.get("encryption-key-id", b"")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise ValueError(f"a payload was encrypted with the key {key_id.decode()!r}, which is not here")
        nonce, secret = payload.data[:NONCE_BYTES], payload.data[NONCE_BYTES:]
        try:
            return Payload.FromString(cipher.decrypt(nonce, secret, key_id))
        except InvalidTag:
            raise ValueError(f"a payload encrypted with {key_id.decode()!r} was changed on its way") from None


def encrypting(keys: Mapping[str, bytes]) -> DataConverter:
    """Returns the data converter that clients and workers need: messages of failures are encrypted as well."""
    return replace(
        DataConverter.default,
        payload_codec=EncryptionCodec(keys),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


@dataclass(frozen=True)
class Employee:
    """Whose salary is nobody else's business."""

    name: str
    salary_cents: int


@activity.defn
async def transfer(employee: Employee) -> str:
    """Pays a salary."""
    return f"paid {employee.salary_cents / 100:.2f} to {employee.name}"


@workflow.defn
class PaySalary:
    """Pays one salary."""

    @workflow.run
    async def run(self, employee: Employee) -> str:
        """Returns the receipt."""
        return await workflow.execute_activity(
            transfer, employee, start_to_close_timeout=timedelta(seconds=30)
        )


async def main(address: str) -> None:
    """Pays a salary, and shows what the server has kept of it."""
    keys = {"2026-01": os.urandom(32), "2026-02": os.urandom(32)}
    async with (
        await Client.connect(address, data_converter=encrypting(keys)) as client,
        Worker(client, task_queue=TASK_QUEUE, workflows=[PaySalary], activities=[transfer]),
    ):
        handle = await client.start_workflow(
            PaySalary.run, Employee("Ada", 512_000), id="salary-ada", task_queue=TASK_QUEUE
        )
        print(await handle.result())
        history = await handle.fetch_history()
        print(history.events[0].workflow_execution_started_event_attributes.input)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite://"))
