"""Studies, the runner that carries them out, and the icon world on which they run anywhere."""

from ablations.recipes import judged, preferred, study, trained, tuned, untrained
from ablations.runner.plan import plan_cells
from ablations.runner.step import Facts, Folder, Step, Work
from ablations.runner.store import Store
from ablations.runner.study import Cell, Contrast, Split, Study, Variant
from ablations.settings import Setting
from ablations.studies import load_study, study_names

__all__ = [
    "Cell",
    "Contrast",
    "Facts",
    "Folder",
    "Setting",
    "Split",
    "Step",
    "Store",
    "Study",
    "Variant",
    "Work",
    "judged",
    "load_study",
    "plan_cells",
    "preferred",
    "study",
    "study_names",
    "trained",
    "tuned",
    "untrained",
]
