"""A kind of file that a command reads: where it lies undamaged, the command, and what of its answer is compared."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Format:
    """A folder that a command reads. `argv` names the folder ROOT and a fresh place OUT; globs are of names in it."""

    name: str
    program: str
    argv: str
    folder: Path
    given: tuple[str, ...] = ()  # files that a user wrote and nothing vouches for: other values are other input
    optional: tuple[str, ...] = ()  # files that need not be there, as they are not beside an original's
    spared: tuple[str, ...] = ()  # files that are not damaged
    outputs: tuple[str, ...] = ()  # in OUT, whose bytes are compared too
    written: tuple[str, ...] = ()  # in ROOT, likewise
    special: bool = True  # whether it is a file of the user's, in whose place anything may stand
    code: int = 0  # undamaged

    @property
    def files(self) -> list[str]:
        """Those that are damaged."""
        found = sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())
        return [name for name in found if not any(Path(name).match(glob) for glob in self.spared)]

    def is_given(self, name: str) -> bool:
        """Whether nothing vouches for the file."""
        return any(Path(name).match(glob) for glob in self.given)

    def is_optional(self, name: str) -> bool:
        """Whether the command does without the file."""
        return any(Path(name).match(glob) for glob in self.optional)
