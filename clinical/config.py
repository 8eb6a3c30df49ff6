"""What a user writes: one YAML file an experiment, read into frozen, checked objects.

A menu entry (a modality's encoder, a fusion, a relation, an objective, a task builder) brings
keys of its own. They are kept as a mapping in `options`; `Run.read` in the pipeline checks
them against the signatures in the menus, so that this module knows no menu.
"""

from clinical.sections import (
    SWITCHABLE,
    EvaluateConfig,
    Experts,
    FinetuneConfig,
    OpenSection,
    PretrainConfig,
    Section,
    TrainerConfig,
)

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    model_validator,
)

LEAST_SUBJECTS = 5
"""Of a class whose name may travel."""

TaskKind = Literal["binary", "multiclass", "multilabel", "regression", "time_to_event"]


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

    relations: Annotated[dict[str, RelationConfig], SWITCHABLE] = Field(default_factory=dict)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of a relation's edges sets dropped in training, so that none is a known state."""


class RunConfig(Section):
    """One experiment, complete."""

    extract: Path
    out: Path
    seed: int = Field(default=0, ge=0)
    resume: bool = False
    """Go on where an interrupted run of the same configuration stopped."""
    overwrite: bool = False
    """Replace a finished run in `out`."""
    acknowledge_identifiers: bool = False
    """Prepare an extract even if it has what looks like identifiers of people."""
    window_hours: float | None = Field(default=48.0, gt=0)
    """Visible hours before the prediction time; null = everything before it."""
    splits: Path | None = None
    """A file in the schema of subject_splits.parquet, instead of the extract's own."""
    tasks: Annotated[dict[str, TaskConfig], SWITCHABLE] = Field(min_length=1)
    modalities: Annotated[dict[str, ModalityConfig], SWITCHABLE] = Field(min_length=1)
    fusion: FusionConfig = FusionConfig()
    graph: GraphConfig = GraphConfig()
    ensemble: int = Field(default=1, ge=1)
    """Networks that are trained alike from seeds of their own; their logits are averaged."""
    experts: Experts = Field(default_factory=list)
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

    @model_validator(mode="after")
    def _prototypes_are_of_classes(self) -> Self:
        if self.finetune.head == "prototypical":
            for name, task in self.tasks.items():
                if task.kind not in ("binary", "multiclass"):
                    raise ValueError(
                        f"finetune.head: prototypical is of binary and multiclass tasks, and "
                        f"{name} is {task.kind}; set head: linear, or take the task out"
                    )
        return self

    @property
    def binary_tasks(self) -> dict[str, TaskConfig]:
        """Those that experts answer and teach."""
        return {name: task for name, task in self.tasks.items() if task.kind == "binary"}

    @property
    def is_pretrained(self) -> bool:
        """Whether the networks learn anything before they see labels."""
        return self.pretrain is not None and self.pretrain.epochs > 0

    @property
    def begins_trained(self) -> bool:
        """Whether the networks know anything when fine-tuning begins."""
        return self.is_pretrained or self.finetune.init is not None

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
