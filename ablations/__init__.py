"""Studies, the runner that carries them out, and the icon world on which they run anywhere."""

from ablations.cells import Cell, Stage, Step, Work, plan_cells
from ablations.store import Store
from ablations.studies import load_study, study_names
from ablations.study import Contrast, Split, Study, Variant, override

__all__ = [
    "Cell",
    "Contrast",
    "Split",
    "Stage",
    "Step",
    "Store",
    "Study",
    "Variant",
    "Work",
    "load_study",
    "override",
    "plan_cells",
    "study_names",
]
