"""The random draw of a trial: labels, and features that stay in the cache for the run on the whole data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from labelclean.arrays import Float32Array
from labelclean.cleaning.parts import Parts, largest_of_parts
from labelclean.config import Config
from labelclean.errors import TableError
from labelclean.features.store import FeatureStore
from labelclean.probes.sums import hashed_parts
from labelclean.review.part_views import PART, part_numbers
from labelclean.runs.extract import extract
from labelclean.runs.ingest import image_root, ingest
from labelclean.runs.part_files import SAMPLES, read_samples
from labelclean.runs.plan import Plan
from labelclean.runs.record import INTERNAL
from labelclean.runs.run import open_run
from labelclean.storage.parquet import (
    atomic_path,
    labels_dataset,
    parquet_options,
    read_json,
    read_table,
    write_json,
)

LEAST_SAMPLES = 60
SAMPLE_FILE = "poc_labels.parquet"


@dataclass(frozen=True)
class DrawnSamples:
    """Usable samples of a random draw; where labels are those of parts, one for each part, with what any of its views shows.

    Attributes:
        samples: Table `samples` of the N that can be used.
        features: float32, shape (N, D).
        num_drawn: How many were drawn.
        rejects: How many of these cannot be used, by reason.
        extracted: The record of their extraction.
    """

    samples: pa.Table
    features: Float32Array
    num_drawn: int
    rejects: dict[str, int]
    extracted: dict[str, Any]


def draw_features(config: Config, samples: pa.Table, names: tuple[str, ...], num_samples: int) -> DrawnSamples:
    """Return the features of randomly drawn samples; those that the backbone has made stay in the cache.

    Args:
        config: The configuration of the whole data set.
        samples: Table `samples` of it.
        names: The K class names.
        num_samples: How many to draw.

    Returns:
        The draw, the same for every backbone.

    Raises:
        LabelcleanError: As `run_trial`.
    """
    with open_run(config) as run:
        drawn = drawn_labels(config, samples, num_samples, run.work / SAMPLE_FILE)
        begin_trial(config, run.work, names)
        ingest(run.work)
        extract(run.work)
        usable = read_samples(run.work, SAMPLES)
        rejects = Counter(read_table(run.work / "rejects.parquet", "rejects").column("reason_code").to_pylist())
        extracted = read_json(run.work / INTERNAL / "extract.json")
    check_enough(usable.num_rows, drawn, rejects, samples.num_rows)
    store = FeatureStore(Path(extracted["store"]), extracted["backbone"]["num_features"])
    features = store.read(usable.column("content_hash").to_pylist())
    if config.data.label_of == "part":
        usable, parts = first_of_parts(usable)
        features = largest_of_parts(features, parts)
        check_enough(len(parts), drawn, rejects, samples.num_rows, "parts with usable images")
    return DrawnSamples(usable, features, drawn, dict(sorted(rejects.items())), extracted)


def first_of_parts(samples: pa.Table) -> tuple[pa.Table, Parts]:
    """Return the first image of each part, whose label is that of the part, and the part of each.

    Args:
        samples: Table `samples` with `part_id`.

    Returns:
        P rows, and the parts of the N images.
    """
    parts = Parts(part_numbers(samples.column(PART).to_pylist()))
    return samples.take(pa.array(parts.first)), parts


def drawn_labels(config: Config, samples: pa.Table, num_samples: int, target: Path) -> int:
    """Write the labels of randomly drawn samples.

    Args:
        config: The configuration of the whole data set.
        samples: Table `samples` of it.
        num_samples: How many to draw.
        target: The file.

    Returns:
        How many samples it holds.
    """
    ids = samples.column("sample_id").to_pylist()
    units = ids
    if config.data.label_of == "part":  # all views of a part, or none
        part_ids = samples.column(PART).to_pylist()
        units = [sample if part is None else part for sample, part in zip(ids, part_ids, strict=True)]
    order = np.argsort(hashed_parts(units, 2**62, seed=config.run.seed, purpose="poc"), kind="stable")
    last = units[order[min(num_samples, len(ids)) - 1]]
    order = np.array([row for at, row in enumerate(order.tolist()) if at < num_samples or units[row] == last])
    wanted = pa.array(sorted(ids[row] for row in order.tolist()), pa.string())
    table = labels_dataset(config.data.labels).to_table(filter=ds.field("sample_id").cast(pa.string()).isin(wanted))
    with atomic_path(target) as temporary:  # as it came; ingest checks it
        pq.write_table(table, temporary, **parquet_options(table.schema))
    return len(wanted)


def check_enough(
    num_usable: int, num_drawn: int, rejects: Mapping[str, int], num_samples: int, what: str = "usable images"
) -> None:
    """Refuse a trial of fewer than 60 usable images, or parts.

    Args:
        num_usable: Images of the draw that can be used.
        num_drawn: Images drawn.
        rejects: How many cannot be used, by reason.
        num_samples: Of the whole data set.
        what: What is counted.

    Raises:
        TableError: If there are fewer.
    """
    if num_usable < LEAST_SAMPLES:
        remedy = (
            "Raise --samples or correct the images" if num_drawn < num_samples else "Correct the images or add labels"
        )
        raise TableError(
            f"poc: at least {LEAST_SAMPLES} {what} are needed, but {num_usable} of {num_drawn} are (rejected: "
            f"{dict(rejects)}). {remedy}."
        )


def begin_trial(config: Config, work: Path, names: tuple[str, ...]) -> None:
    """Turn a run's work folder into that of a trial, whose few samples are one part.

    Args:
        config: The configuration of the whole data set.
        work: The run's work folder, which holds the drawn labels.
        names: The K class names.
    """
    small = replace_data(config, work / SAMPLE_FILE, names)
    write_json(work / INTERNAL / "config.json", small.model_dump(mode="json"))
    write_json(work / INTERNAL / "plan.json", Plan().record())


def replace_data(config: Config, labels: Path, names: tuple[str, ...]) -> Config:
    """Return the configuration with other labels whose images lie where they lay; the teacher is always fitted."""
    data = config.data.model_copy(update={"labels": labels, "image_root": image_root(config), "class_names": names})
    teacher = config.teacher.model_copy(update={"pred_probs": None})
    expectations = config.expectations.model_copy(update={"enabled": False})
    return config.model_copy(update={"data": data, "teacher": teacher, "expectations": expectations})


def review_size(num_suspects: float, num_samples: float, audit_samples: int) -> float:
    """Return how many samples a run's queue should hold: the suspects, and those of the audit that are none.

    Args:
        num_suspects: Samples that are flagged.
        num_samples: All samples.
        audit_samples: How many of all the audit draws.

    Returns:
        An expected number.

    Examples:
        >>> review_size(100, 1_000, 30), review_size(10, 20, 30)
        (127.0, 20.0)
    """
    audited = min(audit_samples, num_samples)
    return num_suspects + audited * (1.0 - num_suspects / num_samples)
