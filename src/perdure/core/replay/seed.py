"""The 64-bit seed of a run's randomness: SipHash-1-3 with zero keys over the run id, as the official workers do it.

It must never change: code that drew random numbers once draws the same ones on every replay.
"""

from __future__ import annotations

_MASK = (1 << 64) - 1


def _rounds(state: tuple[int, int, int, int], count: int) -> tuple[int, int, int, int]:
    v0, v1, v2, v3 = state
    for _ in range(count):
        v0 = (v0 + v1) & _MASK
        v1 = ((v1 << 13) | (v1 >> 51)) & _MASK ^ v0
        v0 = ((v0 << 32) | (v0 >> 32)) & _MASK
        v2 = (v2 + v3) & _MASK
        v3 = ((v3 << 16) | (v3 >> 48)) & _MASK ^ v2
        v0 = (v0 + v3) & _MASK
        v3 = ((v3 << 21) | (v3 >> 43)) & _MASK ^ v0
        v2 = (v2 + v1) & _MASK
        v1 = ((v1 << 17) | (v1 >> 47)) & _MASK ^ v2
        v2 = ((v2 << 32) | (v2 >> 32)) & _MASK
    return v0, v1, v2, v3


def random_seed(run_id: str) -> int:
    """The seed of a run.

    Args:
        run_id: the original run id (of the first event), or the new run id of a reset.

    Returns: 64 bits, unsigned.
    """
    data = run_id.encode() + b"\xff"
    tail = len(data) % 8
    whole = len(data) - tail
    v0, v1, v2, v3 = 0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573
    last = int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56
    for word in (*(int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)), last):
        v0, v1, v2, v3 = _rounds((v0, v1, v2, v3 ^ word), 1)
        v0 ^= word
    v0, v1, v2, v3 = _rounds((v0, v1, v2 ^ 0xFF, v3), 3)
    return v0 ^ v1 ^ v2 ^ v3
