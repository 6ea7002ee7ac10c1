"""Ids that the core makes itself: derived from what is there, so that the core needs no randomness.

Equal arguments give equal ids; whoever derives one names something that exists once.
"""

from __future__ import annotations

import hashlib
from typing import Final

_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The digit that says what kind of UUID it is; two bits of it are random."""


def derived_id(*parts: object) -> str:
    """An id in the form of a random UUID, for requests that the server makes itself."""
    digest = _digest(parts, 16).hex()
    return _dashed(f"{digest[:12]}4{digest[13:16]}8{digest[17:]}")


def derived_run_id(now_ns: int, *parts: object) -> str:
    """The id of a run that another run brings into being at `now_ns`."""
    return uuid7(now_ns // 1_000_000, int.from_bytes(_digest(parts, 10), "big"))


def uuid7(unix_ms: int, random_bits: int) -> str:
    """The UUID of version 7 of a time in milliseconds and 74 random bits (RFC 9562, section 5.7)."""
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76
    value |= ((random_bits >> 62) & 0xFFF) << 64
    value |= 0b10 << 62
    value |= random_bits & 0x3FFF_FFFF_FFFF_FFFF
    return _dashed(f"{value:032x}")


def uuid4(random: bytes) -> str:
    """The UUID of version 4 of sixteen random bytes (RFC 9562, section 5.4)."""
    digits = random.hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def _dashed(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _digest(parts: tuple[object, ...], size: int) -> bytes:
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=size).digest()
