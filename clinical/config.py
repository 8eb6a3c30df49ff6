"""What a user writes: one YAML file an experiment, read into frozen, checked objects.

A menu entry (a modality's encoder, a fusion, a relation, an objective, a task builder) brings
keys of its own. They are kept as a mapping in `options`; `Run.read` in the pipeline checks
them against the signatures in the menus, so that this module knows no menu.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    model_validator,
)

LEAST_SUBJECTS = 5
"""Of a class whose name may travel."""

TaskKind = Literal["binary", "multiclass", "multilabel", "regression", "time_to_event"]
_Goal = Literal["sensitivity", "specificity", "ppv", "alert_rate", "risk"]
_Share = Annotated[float, Field(gt=0, lt=1)]


def _without_null(value: Any) -> Any:
    """An entry that is null is switched off, as `modalities.notes=null` does."""
    if not isinstance(value, Mapping):
        return value
    return {name: entry for name, entry in value.items() if entry is not None}


_SWITCHABLE = BeforeValidator(_without_null)


def _once_each(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("names an expert twice")
    return names


def _one_device(count: int) -> int:
    if count != 1:
        raise ValueError("a network is trained on one device; set 1")
    return count


_Experts = Annotated[list[str], AfterValidator(_once_each)]


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


def _one_or_list(kind: Any) -> PlainValidator:
    """Reads a value or a list of them; of a union pydantic would tell every way to be wrong."""
    one: TypeAdapter[Any] = TypeAdapter(kind)
    several: TypeAdapter[Any] = TypeAdapter(list[kind])

    def read(value: Any) -> Any:
        if value is None:
            return None
        try:
            return (several if isinstance(value, list) else one).validate_python(value)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from None

    return PlainValidator(read)


_Hours = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TaskConfig(OpenSection):
    """A target: where its labels are, or which builder makes them."""

    kind: TaskKind
    labels: Annotated[Path | list[Path] | None, _one_or_list(Path)] = None
    """Folder of MEDS labels, relative to the extract; of a multilabel task one for each class."""
    builder: str | None = None
    """A built-in task that makes labels from the events."""
    unit: str | None = None
    """Of a regression task's values and scores."""
    horizon_hours: Annotated[float | list[float] | None, _one_or_list(_Hours)] = None
    """Of a time-to-event task: the risk of the event by then is scored, one score for each."""
    min_subjects: int | None = Field(default=None, ge=1)
    """Of a multiclass task: train subjects who must have each class (5 unless given), since the
    names of the classes travel with the model."""

    @model_validator(mode="before")
    @classmethod
    def _classes_of_several(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or raw.get("kind") != "multiclass":
            return raw
        least = raw.get("min_subjects")
        return {**raw, "min_subjects": LEAST_SUBJECTS if least is None else least}

    @model_validator(mode="after")
    def _keys_of_kind(self) -> Self:
        if (self.labels is None) == (self.builder is None):
            raise ValueError("give either labels: FOLDER or builder: NAME")
        if problem := self._problem():
            raise ValueError(problem)
        return self

    def _problem(self) -> str | None:
        """What a key says that the kind doesn't understand, or lacks."""
        if self.kind == "multilabel":
            if not isinstance(self.labels, list) or not self.labels:
                return "multilabel needs labels: [FOLDER, FOLDER], a binary folder for each class"
            if len(set(self.class_names)) < len(self.labels):
                return "labels: two folders have one name, which names the class; rename one"
        elif isinstance(self.labels, list):
            return f"labels: a list is for multilabel; {self.kind} takes one folder"
        if (self.kind == "regression") != (self.unit is not None):
            if self.unit is None:
                return "regression needs unit:, in which float_value and scores are, such as hours"
            return f"unit: is for regression; take it out of a {self.kind} task"
        if (self.kind == "time_to_event") != (self.horizon_hours is not None):
            if self.horizon_hours is None:
                return "time_to_event needs horizon_hours:, by which the risk of the event is asked"
            return f"horizon_hours: is for time_to_event; take it out of a {self.kind} task"
        if self.min_subjects is not None and self.kind != "multiclass":
            return f"min_subjects: is for multiclass; take it out of a {self.kind} task"
        if self.horizon_hours is not None and not 0 < len(set(self.horizons)) == len(self.horizons):
            return "horizon_hours: give one or more, each once"
        return None

    @property
    def folders(self) -> tuple[Path, ...]:
        """The label folders; none of a built-in task."""
        if self.labels is None:
            return ()
        return tuple(self.labels) if isinstance(self.labels, list) else (self.labels,)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of a multilabel task."""
        return tuple(folder.name for folder in self.folders)

    def label_columns(self, name: str) -> list[str]:
        """Of a store and its cohort: where the truth of this task, called `name`, stands."""
        if self.kind == "multilabel":
            return [f"label.{name}/{class_name}" for class_name in self.class_names]
        hours = [f"label.{name}/observed"] if self.kind == "time_to_event" else []
        return [f"label.{name}", *hours]

    @property
    def horizons(self) -> tuple[float, ...]:
        """Of a time-to-event task, in rising order."""
        hours = self.horizon_hours
        if hours is None:
            return ()
        return tuple(sorted(hours)) if isinstance(hours, list) else (hours,)


class ModalityConfig(OpenSection):
    """One kind of input and the encoder that reads it."""

    encoder: str
    window_hours: float | None = Field(default=None, gt=0)
    """Overrides the run's window where given; null = all history."""
    select: list[str] | None = None
    """Regular expressions of the codes that belong here, instead of the default routing."""
    weights: Path | None = None
    """Local file or folder of pretrained weights; a hub name where `allow_download`."""
    allow_download: bool = False


class FusionConfig(OpenSection):
    """How the modalities' summaries become one vector."""

    kind: str = "attention"
    width: int = Field(default=64, ge=4)
    modality_dropout: float = Field(default=0.2, ge=0, lt=1)


class RelationConfig(OpenSection):
    """One relation between patients; its kind is its name unless given."""

    kind: str | None = None
    k: int = Field(default=16, ge=1)


class GraphConfig(Section):
    """Which related patients a sample may look at."""

    relations: Annotated[dict[str, RelationConfig], _SWITCHABLE] = Field(default_factory=dict)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of a relation's edges sets dropped in training, so that none is a known state."""


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
    objectives: Annotated[dict[str, ObjectiveConfig], _SWITCHABLE] = Field(min_length=1)


class FinetuneConfig(Section):
    """Learning the tasks from labels."""

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    start: Literal["linear", "pretrained"] = "linear"
    """Where it begins: where ridge regression on what the network adds up linearly ends, or with
    the weights as pretraining, or chance, left them."""
    patience: int | None = Field(default=5, ge=1)
    """Epochs without a better one on tuning before it stops; null = never."""
    keep: Literal["best", "last"] = "best"
    """The epoch whose weights score: the best on tuning, or the last, where the schedule deserves
    more trust than a few tuning labels; then training does not stop early."""
    learn_tuning: bool = False
    """Learn the labels of tuning too, where they are too few to choose anything by. It needs
    keep: last, no experts and a held-out split; scores are uncalibrated, and the curves that are
    called tuning are of patients who are learned from."""
    average: float | None = Field(default=0.99, gt=0, lt=1)
    """Decay of the exponential moving average of weights that scores; null = none."""
    teachers: _Experts = Field(default_factory=list)
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


class RunConfig(Section):
    """One experiment, complete."""

    extract: Path
    out: Path
    seed: int = Field(default=0, ge=0)
    resume: bool = False
    """Go on where an interrupted run of the same configuration stopped."""
    overwrite: bool = False
    """Replace a finished run in `out`."""
    window_hours: float | None = Field(default=48.0, gt=0)
    """Visible hours before the prediction time; null = everything before it."""
    splits: Path | None = None
    """A file in the schema of subject_splits.parquet, instead of the extract's own."""
    tasks: Annotated[dict[str, TaskConfig], _SWITCHABLE] = Field(min_length=1)
    modalities: Annotated[dict[str, ModalityConfig], _SWITCHABLE] = Field(min_length=1)
    fusion: FusionConfig = FusionConfig()
    graph: GraphConfig = GraphConfig()
    ensemble: int = Field(default=1, ge=1)
    """Networks that are trained alike from seeds of their own; their logits are averaged."""
    experts: _Experts = Field(default_factory=list)
    """Classical models beside the networks, by name; their share is fitted on tuning."""
    pretrain: PretrainConfig | None = None
    finetune: FinetuneConfig = FinetuneConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    trainer: TrainerConfig = TrainerConfig()

    @model_validator(mode="after")
    def _labels_are_apart(self) -> Self:
        columns = [c for name, task in self.tasks.items() for c in task.label_columns(name)]
        for name in self.tasks:
            if columns.count(f"label.{name}") > 1:
                raise ValueError(f"tasks: {name} is also a part of another task; rename one")
        return self

    @model_validator(mode="after")
    def _experts_have_labels(self) -> Self:
        if self.experts and self.finetune.learn_tuning:
            raise ValueError("finetune.learn_tuning leaves no label to weigh experts by; drop one")
        key = "experts" if self.experts else "finetune.teachers"
        if (self.experts or self.finetune.teachers) and not self.binary_tasks:
            raise ValueError(f"{key}: are of binary tasks, and there is none; take them out")
        return self

    @property
    def binary_tasks(self) -> dict[str, TaskConfig]:
        """Those that experts answer and teach."""
        return {name: task for name, task in self.tasks.items() if task.kind == "binary"}

    @property
    def is_pretrained(self) -> bool:
        """Whether the networks learn anything before they see labels."""
        return self.pretrain is not None and self.pretrain.epochs > 0

    def modality_window(self, name: str) -> float | None:
        """Visible hours of a modality: its own where it says so, else the run's."""
        modality = self.modalities[name]
        own = "window_hours" in modality.model_fields_set
        return modality.window_hours if own else self.window_hours

    def dump(self) -> dict[str, Any]:
        """Plain values, complete: reading them back gives an equal configuration."""
        return {**_plain(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        kept = {
            name: _plain(getattr(value, name))
            for name in type(value).model_fields
            if name != "options" and not _inherited(value, name)
        }
        return {**kept, **_plain(getattr(value, "options", {}))}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.as_posix() if isinstance(value, Path) else value


def _inherited(section: BaseModel, name: str) -> bool:
    """A modality's window that was not given: writing null would mean all history."""
    unset = name not in section.model_fields_set
    return isinstance(section, ModalityConfig) and name == "window_hours" and unset


def keywords(entry: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """A menu entry's own YAML keys: the keyword-only parameters of its signature."""
    parameters = inspect.signature(entry, eval_str=True).parameters.values()
    return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def pick(options: Mapping[str, Any], entry: Callable[..., Any]) -> dict[str, Any]:
    """The options that a menu entry takes, as keyword arguments for it."""
    known = keywords(entry)
    return {key: value for key, value in options.items() if key in known}
