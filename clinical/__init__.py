"""Patient-level predictions from vitals, labs, notes, images and related patients.

The public API is what `__all__` lists. A name is imported when it is first used, so that `import
clinical` is quick and does nothing but make torchvision importable (see `_torchvision`).
"""

from clinical import _torchvision
from clinical.errors import BundleError, ClinicalError, ConfigError, LeakageError, SchemaError

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clinical.cohort.splits import make_splits
    from clinical.evaluation import choose_thresholds, compare
    from clinical.experiment import Run
    from clinical.explain import explain_inputs, explain_neighbours
    from clinical.extract.importers.flat import import_flat
    from clinical.extract.importers.flat.draft import draft_mapping
    from clinical.extract.schema import Extract
    from clinical.few_shot.curve import learning_curve
    from clinical.grouping import groups
    from clinical.labelling import build_cohort
    from clinical.pipeline import (
        audit,
        embed,
        evaluate,
        finetune,
        import_extract,
        link,
        prepare,
        pretrain,
        run,
        synthesize,
        validate,
        zero_shot,
    )
    from clinical.predictor import Predictor
    from clinical.reporting import report
    from clinical.score_file import score
    from clinical.scoring import drift
    from clinical.site_by_site import leave_one_site_out

__version__ = "0.1.0"

__all__ = [
    "BundleError",
    "ClinicalError",
    "ConfigError",
    "Extract",
    "LeakageError",
    "Predictor",
    "Run",
    "SchemaError",
    "__version__",
    "audit",
    "build_cohort",
    "choose_thresholds",
    "compare",
    "draft_mapping",
    "drift",
    "embed",
    "evaluate",
    "explain_inputs",
    "explain_neighbours",
    "finetune",
    "groups",
    "import_extract",
    "import_flat",
    "learning_curve",
    "leave_one_site_out",
    "link",
    "make_splits",
    "prepare",
    "pretrain",
    "report",
    "run",
    "score",
    "synthesize",
    "validate",
    "zero_shot",
]

_torchvision.install()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # a type checker that saw it would accept any misspelt name

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module 'clinical' has no attribute {name!r}")
        home = {
            "Extract": "clinical.extract.schema",
            "Predictor": "clinical.predictor",
            "Run": "clinical.experiment",
            "build_cohort": "clinical.labelling",
            "choose_thresholds": "clinical.evaluation",
            "compare": "clinical.evaluation",
            "draft_mapping": "clinical.extract.importers.flat.draft",
            "drift": "clinical.scoring",
            "explain_inputs": "clinical.explain",
            "explain_neighbours": "clinical.explain",
            "groups": "clinical.grouping",
            "import_flat": "clinical.extract.importers.flat",
            "learning_curve": "clinical.few_shot.curve",
            "leave_one_site_out": "clinical.site_by_site",
            "make_splits": "clinical.cohort.splits",
            "report": "clinical.reporting",
            "score": "clinical.score_file",
        }
        value = getattr(importlib.import_module(home.get(name, "clinical.pipeline")), name)
        globals()[name] = value
        return value
