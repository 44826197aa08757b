"""`python -m ablations run|status|logs|cancel|check|time|worker|icons ...`; run is also `python -m ablations.run`."""

from __future__ import annotations

import sys
from importlib import import_module

VERBS = {
    "run": ("ablations.run", "carry out a study, or go on with it"),
    "status": ("ablations.watch", "how the cells of a run stand"),
    "logs": ("ablations.watch", "the end of a cell's log"),
    "cancel": ("ablations.watch", "end the cells of a run that wait or run"),
    "check": ("ablations.current", "whether today's code would give records again"),
    "time": ("ablations.timing", "what an image costs in each variant of a study"),
    "worker": ("ablations.worker", "one cell of a planned study"),
    "icons": ("ablations.icons.__main__", "the icon world: data sets, contact sheet, components"),
}
WATCHING = ("status", "logs", "cancel")


def main(arguments: list[str] | None = None) -> int:
    """Hand the rest of the command line to the verb's own command."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in VERBS:
        module = import_module(VERBS[given[0]][0])
        return (module.VERBS[given[0]] if given[0] in WATCHING else module.main)(given[1:])
    told = "".join(f"\n  {verb:8}{purpose}" for verb, (_, purpose) in VERBS.items())
    print(f"usage: python -m ablations VERB ... (--help says how)\n{told}")
    return 0 if given in ([], ["-h"], ["--help"]) else 2


if __name__ == "__main__":
    sys.exit(main())
