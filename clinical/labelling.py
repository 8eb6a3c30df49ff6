"""From a task in a YAML file to labels of an extract, with the flow of who is in and who is not."""

from clinical.cohort.tasks import Built, Flow, build_task, builder_problems
from clinical.cohort.tasks.aces import build_aces, is_aces
from clinical.config import TaskConfig
from clinical.config_file import load_yaml, override, parse_yaml, problems
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.extract.tables import LABELS, SAMPLES
from clinical.extract.write import draft_folder
from clinical.places import check_no_file, replacing

import importlib.resources
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.parquet as pq
import yaml
from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

KEYS = ["subject_id", "prediction_time"]


@dataclass(frozen=True)
class Cohort:
    """Samples of a task, their labels, and how they were chosen.

    Attributes:
        name: Of the task.
        definition: The task, as YAML.
        built: Samples with values, null where there is no label, and the flow.
    """

    name: str
    definition: str
    built: Built

    @property
    def samples(self) -> "pd.DataFrame":
        """`subject_id, prediction_time` of all who can be predicted for, labelled or not."""
        return self.built.samples.select(KEYS).to_pandas()

    @property
    def labels(self) -> "pd.DataFrame":
        """`subject_id, prediction_time` and MEDS' value columns of those with a label."""
        return self._labelled().to_pandas()

    @property
    def flow(self) -> Flow:
        """Counts of who is in and who is not: `flow.table`, `flow.plot(ax=ax)`."""
        return self.built.flow

    def _labelled(self) -> pl.DataFrame:
        values = [name for name in self.built.samples.columns if name not in KEYS]
        return self.built.samples.drop_nulls(values)

    def write(self, out: Path) -> None:
        """A label folder: `0.parquet`, `task.yaml`, `flow.csv` and `flow.svg`, all or nothing.

        Raises:
            ConfigError: `out` is there and not empty.
        """
        from clinical.cohort.tasks.flow_picture import size

        import matplotlib as mpl
        from matplotlib.figure import Figure

        labels = LABELS.read_types(self._labelled().lazy(), where=self.name).collect()
        used = [name for name in LABELS.dtypes if name in self.built.samples.columns]
        with draft_folder(out) as draft:
            pq.write_table(LABELS.to_arrow(labels.select(used)), draft / "0.parquet")
            (draft / "task.yaml").write_text(self.definition, encoding="utf-8")
            self.flow.lines.write_csv(draft / "flow.csv")
            figure = Figure(figsize=size(self.flow.lines), layout="constrained")
            # Words stay words, and the same cohort gives the same file.
            with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "flow"}):
                self.flow.plot(figure.subplots())
                figure.savefig(draft / "flow.svg", metadata={"Date": None})

    def write_samples(self, path: Path) -> None:
        """All samples as a Parquet file, for `clinical score --samples`."""
        samples = SAMPLES.read_types(self.built.samples.lazy(), where=self.name).collect()
        with replacing(path) as draft:
            pq.write_table(SAMPLES.to_arrow(samples), draft)


def build_cohort(
    extract: str | Path,
    task: str | Path,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    samples: str | Path | None = None,
) -> Cohort:
    """Make samples and labels of an extract by a task.

    Who is a sample is decided by what is known at the prediction time; what comes later decides the
    label alone, and who cannot be labelled stays a sample without one.

    Args:
        extract: A MEDS folder.
        task: A YAML file with the keys of a task that names a builder, or the name of a shipped one
            (configs/tasks/): mortality, length_of_stay, readmission, next_code, phenotype. Or a
            task file of ACES, which needs `clinical[aces]`.
        overrides: key=value pairs, such as after_hours=24.
        out: Folder to write labels and flow to; by default nothing is written.
        samples: Parquet file to write all samples to, labelled or not.

    Raises:
        ConfigError: There is no such task, its keys are wrong, or `out` is not empty.
        SchemaError: The extract has a subject in two files, or nobody gets a label.
    """
    path, raw = Path(task), _read(Path(task))
    if samples is not None:
        _check_free(Path(samples))
    opened = Extract.open(extract)
    opened.check_subjects_apart()
    if is_aces(raw):
        if overrides:
            raise ConfigError(f"{task}: is a task of ACES, which takes no key=value; edit the file")
        definition, built = path.read_text(encoding="utf-8"), build_aces(opened, path)
    else:
        config = _task(override(raw, overrides), where=str(task))
        definition, built = _as_yaml(config), build_task(opened, config, where=path.stem)
    if not built.flow.count("labelled"):
        raise SchemaError(_nobody(path.stem, built.flow))
    cohort = Cohort(path.stem, definition, built)
    if out is not None:
        cohort.write(Path(out))
    if samples is not None:
        cohort.write_samples(Path(samples))
    return cohort


def _task(raw: Mapping[str, Any], *, where: str) -> TaskConfig:
    """The task that these keys say, with every problem at once."""
    try:
        config = TaskConfig.model_validate(raw)
        found = _problems(config)
    except ValidationError as error:
        found = problems(error, TaskConfig)
    if found:
        together = "".join(f"\n  {problem}" for problem in found)
        raise ConfigError(f"{where}: {found[0]}" if len(found) == 1 else f"{where}:{together}")
    return config


def _problems(config: TaskConfig) -> list[str]:
    if config.builder is None:
        return ["builder: is required; labels that are there already need no cohort"]
    wrong = builder_problems(config, where="task")
    return [problem.removeprefix("task.") for problem in wrong]


def _read(path: Path) -> dict[str, Any]:
    if path.suffix or path.is_file():
        return load_yaml(path)
    shipped = importlib.resources.files("clinical.configs") / "tasks"
    names = sorted(file.name.removesuffix(".yaml") for file in shipped.iterdir())
    if str(path) not in names:
        raise ConfigError(f"{path}: there is no such task; shipped are {', '.join(names)}")
    return parse_yaml((shipped / f"{path}.yaml").read_text(encoding="utf-8"), where=str(path))


def _check_free(path: Path) -> None:
    check_no_file(path.parent, what="samples", remedy="choose another file")
    if path.exists():
        raise ConfigError(f"samples: {path} is there already; remove it or choose another")
    if not path.parent.is_dir():
        raise ConfigError(f"samples: there is no folder {path.parent}; make it first")


def _nobody(name: str, flow: Flow) -> str:
    (n_anchors,) = flow.lines.filter(pl.col("stage") == "anchor")["samples"]
    what = flow.lines.filter(pl.col("stage") == "anchor")["what"].item()
    if not n_anchors:
        return f"{name}: the extract has no {what}; see metadata/codes.parquet, set anchor="
    return f"{name}: none of {n_anchors:,} {what} gets a label: {flow.lost()}"


def _as_yaml(task: TaskConfig) -> str:
    own = task.model_dump(mode="json", exclude_defaults=True)
    options = TypeAdapter(dict[str, Any]).dump_python(task.options, mode="json")
    return yaml.safe_dump({**own, **options}, sort_keys=False)
