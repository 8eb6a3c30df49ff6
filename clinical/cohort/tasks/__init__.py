"""Built-in tasks: labels from events, where an extract brings none."""

from clinical.cohort.tasks.builder import EVENTS, Builder, Built
from clinical.cohort.tasks.flow import Flow
from clinical.cohort.tasks.length_of_stay import LengthOfStay
from clinical.cohort.tasks.mortality import Mortality
from clinical.cohort.tasks.next_code import NextCode
from clinical.cohort.tasks.phenotype import Phenotype
from clinical.cohort.tasks.readmission import Readmission
from clinical.config import TaskConfig, pick
from clinical.config_file import likely
from clinical.entry_options import entry_problems
from clinical.errors import ConfigError
from clinical.extract.schema import Extract
from clinical.extract.tables import collect

from collections.abc import Iterator

import polars as pl
from pydantic import TypeAdapter, ValidationError

__all__ = ["TASK_BUILDERS", "Built", "Flow", "build_task", "builder_of", "builder_problems"]

TASK_BUILDERS: dict[str, type[Builder]] = {
    "mortality": Mortality,
    "length_of_stay": LengthOfStay,
    "readmission": Readmission,
    "next_code": NextCode,
    "phenotype": Phenotype,
}


def builder_of(task: TaskConfig, *, where: str) -> Builder:
    """The builder that a task names, with the task's keys.

    Raises:
        ConfigError: There is none of that name, or its keys are wrong or don't go together.
    """
    kind = TASK_BUILDERS.get(task.builder or "")
    if kind is None:
        guess = likely(task.builder or "", TASK_BUILDERS)
        raise ConfigError(f"{where}.builder: there is no {task.builder}{guess}")
    try:
        builder: Builder = TypeAdapter(kind).validate_python(pick(task.options, kind))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([where, *map(str, first["loc"])])
        raise ConfigError(f"{key}: {first['msg']}") from None
    if (problem := builder.problem(task.kind, task.unit)) is not None:
        raise ConfigError(f"{where}.builder: {task.builder} {problem}")
    return builder


def builder_problems(task: TaskConfig, *, where: str) -> Iterator[str]:
    """What is wrong with the keys of a task that names a builder, all that can be told at once."""
    wrong = list(entry_problems(where, "builder", task.builder or "", TASK_BUILDERS, task, []))
    yield from wrong
    if not wrong:
        try:
            builder_of(task, where=where)
        except ConfigError as error:
            yield str(error)


def build_task(extract: Extract, task: TaskConfig, *, where: str) -> Built:
    """Samples, labels and flow of a task with a builder, one shard read after the other.

    Raises:
        ConfigError: As `builder_of`.
        SchemaError: A shard cannot be read.
    """
    builder = builder_of(task, where=where)
    built = []
    for shard in extract.shards:
        events = collect(extract.scan(shard).select(EVENTS), where=shard)
        built.append(builder.build(events, kind=task.kind, unit=task.unit))
    samples = pl.concat([part.samples for part in built]).sort("subject_id", "prediction_time")
    return Built(samples, Flow.together([part.flow for part in built]))
