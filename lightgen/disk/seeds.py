"""Seeds derived from names: the same parts give the same seed on every machine, in any order of work."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) from the parts, e.g. (run seed, "order", epoch)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
