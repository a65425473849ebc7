"""How one seed becomes many: every random draw is keyed by the seed and what it is for."""

from __future__ import annotations

from hashlib import blake2b


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A number in [0, 2^63) that depends on the seed and the purpose alone, the same on every machine."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
