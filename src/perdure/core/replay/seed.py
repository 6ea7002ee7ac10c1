"""The 64-bit seed of a run's randomness: SipHash-1-3 with zero keys over the run id, as the official workers do it.

It must never change: code that drew random numbers once draws the same ones on every replay.
"""

from __future__ import annotations

_MASK = (1 << 64) - 1


def random_seed(run_id: str) -> int:
    """The seed of a run.

    Args:
        run_id: the original run id (of the first event), or the new run id of a reset.

    Returns: 64 bits, unsigned.
    """
    data = run_id.encode() + b"\xff"
    size = len(data)
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, size - size % 8, 8)]
    words.append(int.from_bytes(data[size - size % 8 :], "little") | (size & 0xFF) << 56)
    v0, v1, v2, v3 = 0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573
    # One round for each word; then three more, of which only the first mixes something in.
    for index, word in enumerate((*words, 0, 0, 0)):
        if index == len(words):
            v2 ^= 0xFF
        v3 ^= word
        v0 = (v0 + v1) & _MASK
        v1 = ((v1 << 13) & _MASK | v1 >> 51) ^ v0
        v0 = (v0 << 32) & _MASK | v0 >> 32
        v2 = (v2 + v3) & _MASK
        v3 = ((v3 << 16) & _MASK | v3 >> 48) ^ v2
        v0 = (v0 + v3) & _MASK
        v3 = ((v3 << 21) & _MASK | v3 >> 43) ^ v0
        v2 = (v2 + v1) & _MASK
        v1 = ((v1 << 17) & _MASK | v1 >> 47) ^ v2
        v2 = (v2 << 32) & _MASK | v2 >> 32
        v0 ^= word
    return v0 ^ v1 ^ v2 ^ v3
