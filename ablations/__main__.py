"""python -m ablations run|worker|icons ...: the same as `python -m ablations.run` and so on."""

from __future__ import annotations

import sys
from importlib import import_module

VERBS = {
    "run": ("ablations.run", "carry out a study, or go on with it"),
    "worker": ("ablations.worker", "one cell of a planned study"),
    "icons": ("ablations.icons.__main__", "the icon world: data sets, contact sheet, components"),
}


def main(arguments: list[str] | None = None) -> int:
    """Hand the rest of the command line to the verb's own module."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] in ([], ["-h"], ["--help"]):
        print("usage: python -m ablations VERB ...\n")
        for verb, (_, purpose) in VERBS.items():
            print(f"  {verb:8}{purpose}; python -m ablations {verb} --help says how")
        return 0
    if given[0] not in VERBS:
        print(f"error: no verb {given[0]!r}; there are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    return import_module(VERBS[given[0]][0]).main(given[1:])


if __name__ == "__main__":
    sys.exit(main())
