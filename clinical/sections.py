"""Sections of the configuration: what all of them are, and those that are about training.

A menu entry brings keys of its own, which an open section keeps as a mapping; `config.py` puts the
sections together.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

_Goal = Literal["sensitivity", "specificity", "ppv", "alert_rate", "risk"]
HeadKind = Literal["linear", "prototypical"]
_Share = Annotated[float, Field(gt=0, lt=1)]

SMALLEST_EPISODE = 4
"""Samples: two classes, and of each one who supports its prototype and one who asks."""


def _without_null(value: Any) -> Any:
    """An entry that is null is switched off, as `modalities.notes=null` does."""
    if not isinstance(value, Mapping):
        return value
    return {name: entry for name, entry in value.items() if entry is not None}


SWITCHABLE = BeforeValidator(_without_null)


def _once_each(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("names an expert twice")
    return names


def _one_device(count: int) -> int:
    if count != 1:
        raise ValueError("a network is trained on one device; set 1")
    return count


Experts = Annotated[list[str], AfterValidator(_once_each)]


class Section(BaseModel):
    """A part of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OpenSection(Section):
    """A part that names a menu entry: keys it does not know itself belong to the entry."""

    options: dict[str, Any] = Field(default_factory=dict, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        own = {key: value for key, value in raw.items() if key in cls.model_fields}
        rest = {key: value for key, value in raw.items() if key not in cls.model_fields}
        return {**own, "options": {**own.get("options", {}), **rest}}


class ObjectiveConfig(OpenSection):
    """The weight of a self-supervised task in the pretraining loss."""

    weight: float = Field(default=1.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _bare_weight(cls, raw: Any) -> Any:
        return {"weight": raw} if isinstance(raw, int | float | str) else raw


class PretrainConfig(Section):
    """Learning from the train split without labels."""

    epochs: int = Field(default=10, ge=0)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    patience: int | None = Field(default=None, ge=1)
    balance: Literal["fixed", "uncertainty"] = "fixed"
    """The objectives' weights as given, or each divided by what its loss usually is; either
    way epochs are compared under the weights as given."""
    probe_every: int | None = Field(default=None, ge=1)
    """Epochs between looks at what a line through the summaries of labelled train samples (up to
    2,000) tells of each task, by its AUROC on tuning; the untrained network is looked at too, and
    nothing is changed by it. null = never."""
    objectives: Annotated[dict[str, ObjectiveConfig], SWITCHABLE] = Field(min_length=1)


class InitConfig(Section):
    """A finished bundle, perhaps of another extract, whose networks a run's networks begin as."""

    bundle: Path
    mapping: Path | None = None
    """A YAML file of codes: new code: code in the bundle, or null for none."""
    heads: bool = False
    """Begin with the heads of tasks of the same name and kind, too; it needs start: pretrained."""

    @model_validator(mode="before")
    @classmethod
    def _bare_path(cls, raw: Any) -> Any:
        return {"bundle": raw} if isinstance(raw, str | Path) else raw


class FinetuneConfig(Section):
    """Learning the tasks from labels."""

    init: InitConfig | None = None
    """A bundle to begin from, before pretraining where there is any; or its path alone."""

    recipe: Literal["full", "linear_probe", "frozen", "gradual", "discriminative", "lora"] = "full"
    """What learns after the start: everything; nothing; the readout and the heads; at first these,
    from the second epoch on the fusion and the messages too, and from the third the encoders; or
    everything, fusion and messages 2.6 times slower than readout and heads, and encoders 2.6 times
    slower again; or everything, but of a BERT only low-rank adapters."""
    epochs: int = Field(default=20, ge=0)
    """0 = recipe: linear_probe, of which the start itself scores: the linear one, or prototypes of
    the network as it came."""
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    head: HeadKind = "linear"
    """What reads a task's aspect: a line, or how near it is to the mean patient of each class,
    learned by episodes of a few patients a class; this of binary and multiclass tasks."""
    start: Literal["linear", "pretrained"] = "linear"
    """Where ridge regression on what the network adds up linearly ends, or as the weights are;
    a prototypical head has no line to write into, and starts as they are."""
    patience: int | None = Field(default=5, ge=1)
    """Epochs without a better one on tuning before it stops, with recipe: gradual two more; null =
    never."""
    keep: Literal["best", "last"] = "best"
    """The epoch whose weights score: the best on tuning, the start among them, or the last, where
    the schedule deserves more trust than a few tuning labels; then training does not stop early."""
    learn_tuning: bool = False
    """Learn the labels of tuning too, where they are too few to choose anything by. It needs
    keep: last, no experts and a held-out split; scores are uncalibrated, and the curves that are
    called tuning are of patients who are learned from."""
    average: float | None = Field(default=0.99, gt=0, lt=1)
    """Decay of the exponential moving average of weights that scores; null = none."""
    teachers: Experts = Field(default_factory=list)
    """Experts, by name, whose out-of-fold risks are learned beside the labels. Where the network
    was pretrained, a linear probe of its embedding teaches with them."""
    teacher_share: float = Field(default=0.5, ge=0, le=1)
    """Of a labelled sample's target; the rest is the label's."""
    try_relations: bool = True
    """Where the network was pretrained, try each relation on train patients first, and close those
    whose neighbours tell nothing of a task that the patients themselves don't tell, and those for
    which there are too few labels to say."""
    teach_unlabelled: bool = False
    """Learn the teachers' risks of train samples without a label too; for labels that are missing,
    not for those that are null because there was nothing to predict."""

    @model_validator(mode="before")
    @classmethod
    def _last_has_no_patience(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or raw.get("keep") != "last":
            return raw
        if raw.get("patience") is not None:
            raise ValueError("keep: last goes on to the last epoch; take patience out")
        return {**raw, "patience": None}

    @model_validator(mode="before")
    @classmethod
    def _a_probe_has_no_epochs(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        if raw.get("recipe", "full") == "full" and raw.get("epochs") == 0:
            return {**raw, "recipe": "linear_probe"}
        if raw.get("recipe") == "linear_probe":
            if raw.get("epochs", 0) != 0:
                raise ValueError("recipe: linear_probe has no epochs; set 0, or another recipe")
            return {**raw, "epochs": 0}
        return raw

    @model_validator(mode="after")
    def _a_recipe_has_epochs(self) -> Self:
        if not self.epochs and self.recipe != "linear_probe":
            raise ValueError(f"epochs: 0 leaves recipe: {self.recipe} nothing to do; set 1 or more")
        if self.recipe == "gradual" and self.epochs < 3:
            raise ValueError(
                f"epochs: {self.epochs} ends before recipe: gradual lets the encoders learn, in "
                "the third; set 3 or more, or recipe: frozen"
            )
        return self

    @model_validator(mode="after")
    def _keeps_heads(self) -> Self:
        if self.init is not None and self.init.heads and self.start == "linear":
            raise ValueError(
                "init.heads: start: linear solves for heads anew; set start: pretrained"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _prototypes_have_no_line(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or raw.get("head") != "prototypical":
            return raw
        if raw.get("start") == "linear":
            raise ValueError(
                "head: prototypical has no line to start with; set start: pretrained, or take "
                "start out"
            )
        return {**raw, "start": "pretrained"}

    @model_validator(mode="after")
    def _makes_episodes(self) -> Self:
        if self.head != "prototypical":
            return self
        if self.teachers:
            raise ValueError(
                "head: prototypical learns of classes, and teachers teach risks; take teachers "
                "out, or set head: linear"
            )
        if self.init is not None and self.init.heads:
            raise ValueError(
                "init.heads: head: prototypical finds its prototypes anew; leave heads out"
            )
        if self.batch_size < SMALLEST_EPISODE:
            raise ValueError(
                f"head: prototypical needs batch_size: {SMALLEST_EPISODE} or more, two classes of "
                "one patient who supports and one who asks"
            )
        return self

    @model_validator(mode="after")
    def _learns_something(self) -> Self:
        if not self.epochs and self.start != "linear" and self.head == "linear":
            raise ValueError("epochs: 0 learns nothing from labels but by start: linear")
        return self

    @model_validator(mode="after")
    def _chooses_nothing(self) -> Self:
        if self.learn_tuning and self.keep != "last":
            raise ValueError("learn_tuning leaves nothing to choose the epoch by; set keep: last")
        return self


class EvaluateConfig(Section):
    """How sure the figures are, and the goals that thresholds reach on the calibrate half."""

    resamples: int = Field(default=1000, ge=1)
    thresholds: dict[_Goal, list[_Share]] = {"sensitivity": [0.8, 0.9], "alert_rate": [0.1]}


class TrainerConfig(Section):
    """The machine."""

    accelerator: str = "auto"
    devices: Annotated[int, AfterValidator(_one_device)] = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    workers: int = Field(default=0, ge=0)
    threads: int | None = Field(default=None, ge=1)
    """Threads of torch; null leaves torch's own choice."""
    compile: bool = False
