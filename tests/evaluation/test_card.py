from clinical.calibration import Calibration, fit_calibration
from clinical.evaluation import evaluate, model_card
from clinical.evaluation.withholding import withhold_facts

import numpy as np
import pandas as pd

CONFIG = {
    "tasks": {"death": {"kind": "binary"}},
    "modalities": {"events": {}, "notes": {}},
    "graph": {"relations": {"similar": {}}},
    "window_hours": 48.0,
    "finetune": {"recipe": "full", "teachers": ["additive", "lightgbm"]},
    "seed": 7,
}


def card(
    n=60,
    *,
    label=None,
    baseline=False,
    calibration=None,
    members=None,
    relations=None,
    tasks=CONFIG["tasks"],
    finetune=CONFIG["finetune"],
    typicality=None,
):
    generator = np.random.default_rng(0)
    scores = generator.random(n)
    table = pd.DataFrame(
        {
            "subject_id": 990_000 + np.arange(n),
            "prediction_time": pd.Timestamp("2150-01-01"),
            "task": "death",
            "score": scores,
            "label": (generator.random(n) < scores).astype(float) if label is None else label,
        }
    )
    evaluation = evaluate(table, baseline=table if baseline else None, resamples=20)
    metrics = {
        "split": "tuning (not held out)",
        "baseline": "LightGBM",
        "calibration": {"death": (calibration or Calibration()).to_json()},
        "evaluation": evaluation.to_json(smallest=10),
        "members": {} if members is None else {"death": members},
        "relations": relations or {},
        "typicality": typicality or {},
        "counts": {"samples": {"train": 300}},
    }
    config = CONFIG | {"tasks": tasks, "finetune": finetune}
    return model_card(config, withhold_facts(metrics, {}, 10)), evaluation


def test_the_card_says_what_must_be_said():
    text, evaluation = card(baseline=True)
    assert "not a medical device" in text
    assert "pseudonyms" in text
    assert "patient-level data" in text
    assert "Evaluated on: tuning (not held out)." in text
    assert "Baseline: LightGBM." in text
    assert "Learned from labels, and from additive and lightgbm fitted on other subjects." in text
    auroc = evaluation.display_table().set_index("metric").loc["AUROC"]
    assert f"| AUROC | {auroc.iloc[1]} | {auroc.iloc[2]} | {auroc.iloc[3]} |" in text


def test_the_card_says_by_what_recipe_labels_were_learned():
    plain, _ = card(finetune={"recipe": "full", "teachers": []})
    frozen, _ = card(finetune={"recipe": "frozen", "teachers": []})
    assert "Learned from labels." in plain
    assert "Learned from labels by recipe `frozen`." in frozen


def test_tables_of_the_card_have_the_same_number_of_cells_in_each_row():
    for text, _ in (card(), card(baseline=True)):
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len(rows) > 5
        assert len({line.count("|") for line in rows}) == 1


def test_the_card_says_which_scores_are_uncalibrated_and_that_relations_were_not_tried():
    kinds = {"stay": "regression", "out": "time_to_event"}
    tasks = CONFIG["tasks"] | {name: {"kind": kind} for name, kind in kinds.items()}
    heard = {"networks": 1, "linked": 1.0, "open": 1, "gate": 0.5, "tried": {}}
    text, _ = card(relations={"similar": heard}, tasks=tasks)
    assert "- `death`: identity" in text
    assert "- `stay`: uncalibrated, as every regression task is" in text
    assert "- `out`: uncalibrated, as every time_to_event task is" in text
    assert "Here none is closed: what they tell of stay, out was not tried." in text
    assert "Here none is closed" not in card(relations={"similar": heard})[0]


def test_the_card_says_that_names_of_classes_travel():
    assert "names of the classes" not in card()[0]
    text, _ = card(tasks=CONFIG["tasks"] | {"ward": {"kind": "multiclass", "min_subjects": 7}})
    assert "names of the classes that train has travel in it" in text
    assert "`ward` (of 7 or more subjects)" in text


def test_the_card_says_whose_data_class_prototypes_are():
    assert "prototypes" not in card()[0]
    text, _ = card(finetune=CONFIG["finetune"] | {"head": "prototypical"})
    assert "prototypes are patient-level data, as reference embeddings are" in text


def test_the_card_tells_which_relations_are_heard_and_why():
    told = {"death": {"gain": -0.0012, "error": 0.003, "n": 40.0}}
    shared = {"networks": 2, "linked": 0.987}
    text, _ = card(
        relations={
            "similar": {**shared, "open": 0, "gate": 0.0, "tried": told},
            "same_unit": {**shared, "open": 2, "gate": 0.456, "tried": {}},
        }
    )
    closed = "0 of 2 networks | 0.00 | death -0.0012 (standard error 0.0030) |"
    assert f"| similar | at least 95% | {closed}" in text
    assert "| same_unit | at least 95% | 2 of 2 networks | 0.46 | not tried |" in text


def test_the_card_holds_no_subject_and_no_nan():
    text, _ = card(label=np.repeat([1.0, 0.0], 30), n=60)
    assert "9900" not in text
    assert "nan" not in text.lower()


def test_figures_and_counts_of_few_are_not_in_the_card():
    few = np.repeat([1.0, 0.0], [7, 53])
    fit = fit_calibration(np.linspace(-1, 1, 60), few)
    text, evaluation = card(label=few, calibration=fit)
    assert "Fewer than 10 people were judged" in text
    auroc = evaluation.table.set_index("metric").loc["AUROC", "value"]
    assert f"{auroc:.3f}" not in text
    assert "fitted on 60 people of the calibrate half, few with or without the event" in text
    assert "(few: Platt's line, no other tried" in text
    assert "53" not in text


def test_the_card_says_why_scores_are_uncalibrated():
    text, _ = card(calibration=fit_calibration(np.zeros(9), np.zeros(9)))
    assert "not calibrated: no positives to fit on" in text


def test_the_card_tells_the_members_of_a_score_where_there_are_several():
    figures = {"auroc": 0.8123, "auprc": None}
    several = {"expert_weight": 0.4, "ranking": {"network 1": figures, "lightgbm": figures}}
    text, _ = card(members=several)
    assert "### death: members" in text
    assert "a weight of 0.40" in text
    assert "| network 1 | 0.812 | – |" in text
    networks = {"expert_weight": None, "ranking": {"network 1": figures, "networks": figures}}
    assert "weight" not in card(members=networks)[0]
    alone = {"expert_weight": None, "ranking": {"network 1": figures}}
    assert "members" not in card(members=alone)[0]


def test_the_card_tells_how_many_patients_are_atypical():
    found = {"calibrated_on": 84, "level": 0.05, "judged": 200, "atypical": 12}
    text, _ = card(typicality=found)
    assert "the share of 84 calibration patients who were no more typical." in text
    assert "At 0.05 or less were 6.0% of 200 judged patients, whose samples share" in text
    text, _ = card(typicality=found | {"calibrated_on": 0})
    assert "Too few people were left to calibrate it on" in text
