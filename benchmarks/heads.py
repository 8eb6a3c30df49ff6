"""What the heads find of a few labels: AUROC of linear and prototypical ones, same network before.

    python benchmarks/heads.py --subjects 600 --draws 3 --out runs/heads

A synthetic hospital and `configs/tiny.yaml` without images and relations, so that a network is
trained in seconds. It is pretrained once; then each head is fine-tuned on k positives
of train and as many negatives, drawn again each time and the same for all. No label of tuning is
read (`keep: last`), so that all samples outside of train judge. What is printed is rough: draws
share the network and the judges, and their mean (and range) is not an interval.
"""

import clinical
from clinical.cohort.store import Store
from clinical.datamodule import make_loader
from clinical.experiment import Run
from clinical.training.build import build_model, finetune_model, load_pretrained
from clinical.training.members import Member, members

import argparse
import logging
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import torch
from sklearn.metrics import roc_auc_score

TASK = "in_hospital_mortality"
LABEL = f"label.{TASK}"
TINY = Path(__file__).parents[1] / "configs" / "tiny.yaml"
SMALL = [
    "modalities.images=null",
    "graph.relations.similar=null",
    "graph.relations.same_unit=null",
    "pretrain.epochs=5",
    "pretrain.objectives.patches=null",
    "pretrain.objectives.edges=null",
    "finetune.teachers=[]",
    "finetune.keep=last",
    "finetune.epochs=20",
]
HEADS = {
    "linear, started by ridge": [],
    "linear, not started": ["finetune.start=pretrained"],
    "prototypical": ["finetune.head=prototypical"],
    "prototypical, no epoch": ["finetune.head=prototypical", "finetune.epochs=0"],
}


def drawn(store: Store, positives: int, generator: np.random.Generator) -> np.ndarray:
    """Train rows: so many positives, and as many negatives."""
    train = store.rows("train")
    label = store.samples[LABEL].to_numpy()[train]
    each = [generator.choice(train[label == c], positives, replace=False) for c in (0, 1)]
    return np.concatenate(each)


def knowing(store: Store, rows: np.ndarray, folder: Path) -> Store:
    """A copy of a store in which no other label of train is known."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(store.folder, folder)
    hidden = np.setdiff1d(store.rows("train"), rows).tolist()
    unknown = pl.int_range(pl.len()).is_in(hidden)
    changed = store.samples.with_columns(
        pl.when(unknown).then(None).otherwise(pl.col(LABEL)).alias(LABEL)
    )
    changed.write_ipc(folder / "samples.arrow", compression="uncompressed")
    return Store.open(folder)


@torch.no_grad()
def auroc(member: Member, store: Store) -> float:
    """Of a network that is fine-tuned here, on all labelled samples outside of train."""
    shutil.rmtree(member.checkpoints / "finetune", ignore_errors=True)
    model = build_model(member.config, store)
    load_pretrained(member, model)
    finetune_model(member, store, model, progress=False)
    others = np.concatenate([store.rows(name) for name in ("select", "calibrate", "held_out")])
    others = np.sort(others[store.is_labelled[others]])
    said = {}
    for batch in make_loader(store.folder, member.config, others, batch_size=128):
        logits = model.eval()(batch).logits[TASK]
        said |= dict(zip(batch.row.tolist(), logits.tolist(), strict=True))
    label = store.samples[LABEL].to_numpy()[others]
    return float(roc_auc_score(label, [said[row] for row in others]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=600)
    parser.add_argument("--positives", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/heads"))
    given = parser.parse_args()
    logging.getLogger("clinical").setLevel(logging.ERROR)
    extract, out = given.out / "extract", given.out / "run"
    if not extract.exists():
        clinical.synthesize(extract, subjects=given.subjects, seed=1)
    places = [f"extract={extract}", f"out={out}", "overwrite=true"]
    clinical.pretrain(Run.read(TINY, [*SMALL, *places]))
    whole = Store.open(out / "store")
    print("positives  " + "  ".join(HEADS))
    for positives in given.positives:
        found = []
        for draw in range(given.draws):
            rows = drawn(whole, positives, np.random.default_rng([positives, draw]))
            store = knowing(whole, rows, given.out / "store")
            runs = [Run.read(TINY, [*SMALL, *places, *more]) for more in HEADS.values()]
            found.append([auroc(members(run)[0], store) for run in runs])
        values = np.array(found).T
        told = [f"{v.mean():.3f} ({v.min():.3f}-{v.max():.3f})" for v in values]
        print(f"{positives:9d}  " + "  ".join(told), flush=True)


if __name__ == "__main__":
    main()
