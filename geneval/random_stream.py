"""The random stream behind the official prompts, in the standard library alone.

The official suite was drawn with numpy's default generator (SeedSequence -> PCG64 XSL-RR 128/64 -> bounded integers by
Lemire's method). numpy does not promise these streams forever, so the prompts are drawn from this file instead.
"""

_M32 = (1 << 32) - 1
_M64 = (1 << 64) - 1
_M128 = (1 << 128) - 1
_PCG_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645


class RandomStream:
    """numpy's `default_rng(seed)` as far as the prompts need it: `below`, `choice`."""

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"the prompt seed must be 0 or more, not {seed}")
        words = _seed_words(seed)
        state = words[0] << 64 | words[1]
        self._increment = ((words[2] << 64 | words[3]) << 1 | 1) & _M128
        self._state = (self._increment + state) & _M128
        self._step()
        self._high_half: int | None = None

    def below(self, bound: int) -> int:
        """A uniform integer in [0, bound): Lemire's multiply-and-reject on 32 bits; a bound of 1 draws nothing."""
        if bound == 1:
            return 0
        product = self._next32() * bound
        if (product & _M32) < bound:
            threshold = (_M32 + 1 - bound) % bound
            while (product & _M32) < threshold:
                product = self._next32() * bound
        return product >> 32

    def choice(self, population: int, size: int) -> list[int]:
        """`size` distinct integers below `population` in random order: Floyd's sampling, then Fisher-Yates."""
        chosen: list[int] = []
        for last in range(population - size, population):
            value = self.below(last + 1)
            chosen.append(last if value in chosen else value)
        for i in range(size - 1, 0, -1):
            j = self.below(i + 1)
            chosen[i], chosen[j] = chosen[j], chosen[i]
        return chosen

    def _step(self) -> None:
        self._state = (self._state * _PCG_MULTIPLIER + self._increment) & _M128

    def _next32(self) -> int:
        """32 bits; a 64-bit output is spent low half first."""
        if self._high_half is not None:
            high, self._high_half = self._high_half, None
            return high
        self._step()
        folded, rotation = (self._state >> 64) ^ (self._state & _M64), self._state >> 122
        output = (folded >> rotation | folded << (64 - rotation)) & _M64
        self._high_half = output >> 32
        return output & _M32


def _seed_words(seed: int) -> list[int]:
    """Four 64-bit words: SeedSequence's entropy pool of four 32-bit words, mixed and stretched."""
    entropy = [seed & _M32]
    while seed := seed >> 32:
        entropy.append(seed & _M32)
    pool = _mixed_pool(entropy)
    words, constant = [], 0x8B51F9DD
    for i in range(8):
        value = pool[i % 4] ^ constant
        constant = constant * 0x58F38DED & _M32
        value = value * constant & _M32
        words.append(value ^ value >> 16)
    return [words[i] | words[i + 1] << 32 for i in range(0, 8, 2)]


def _mixed_pool(entropy: list[int]) -> list[int]:
    constant = 0x43B0D7E5

    def hashed(value: int) -> int:
        nonlocal constant
        value ^= constant
        constant = constant * 0x931E8875 & _M32
        value = value * constant & _M32
        return value ^ value >> 16

    def mixed(x: int, y: int) -> int:
        value = (0xCA01F9DD * x - 0x4973F715 * y) & _M32
        return value ^ value >> 16

    pool = [hashed(entropy[i] if i < len(entropy) else 0) for i in range(4)]
    for source in range(4):
        for target in range(4):
            if source != target:
                pool[target] = mixed(pool[target], hashed(pool[source]))
    for word in entropy[4:]:
        for target in range(4):
            pool[target] = mixed(pool[target], hashed(word))
    return pool
