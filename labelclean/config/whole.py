"""The whole configuration: every section by its name."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import model_validator

from labelclean.config.adapt import AdaptConfig
from labelclean.config.cleaning import CleaningConfig
from labelclean.config.costs import ClassesConfig, CostsConfig
from labelclean.config.data import DataConfig, ExpectationsConfig, IngestConfig, RejectsConfig
from labelclean.config.images import BackboneConfig, DecodeConfig
from labelclean.config.review import FlagsConfig, LedgerConfig, ReviewConfig, StudyConfig
from labelclean.config.run import NotifyConfig, RunConfig, StorageConfig
from labelclean.errors import listed


class Config(CleaningConfig):
    """The whole configuration."""

    data: DataConfig
    backbone: BackboneConfig
    run: RunConfig
    storage: StorageConfig
    decode: DecodeConfig = DecodeConfig()
    classes: ClassesConfig = ClassesConfig()
    costs: CostsConfig = CostsConfig()
    flags: FlagsConfig = FlagsConfig()
    review: ReviewConfig = ReviewConfig()
    study: StudyConfig = StudyConfig()
    rejects: RejectsConfig = RejectsConfig()
    expectations: ExpectationsConfig = ExpectationsConfig()
    ledger: LedgerConfig = LedgerConfig()
    adapt: AdaptConfig = AdaptConfig()
    ingest: IngestConfig = IngestConfig()
    notify: NotifyConfig = NotifyConfig()

    @model_validator(mode="after")
    def _costs_are_of_classes(self) -> Config:
        faults = [] if self.data.class_names is None else class_faults(self, self.data.class_names)
        if self.costs.is_given and self.classes.ok is None:
            faults.append("classes.ok must name the class of parts without a defect where costs are given")
        if faults:
            raise ValueError("; ".join(faults))
        return self


def class_faults(config: Config, names: Sequence[str]) -> list[str]:
    """Return what `classes` and `costs` name that is no class, or not one that it may be.

    Args:
        config: The configuration.
        names: The K class names.

    Returns:
        Half sentences.
    """
    ok, faults = config.classes.ok, []
    if ok is not None and ok not in names:
        faults.append(f"classes.ok must be one of the classes {listed(tuple(names), 12)}, but is {ok!r}")
    unknown = sorted(name for name in config.costs.by_class if name not in names or name == ok)
    if unknown:
        defects = [name for name in names if name != ok]
        faults.append(f"costs.by_class must name defect classes {listed(defects, 12)}, but names {listed(unknown, 12)}")
    return faults


PATH_KEYS = (
    "data.labels",
    "data.image_root",
    "backbone.weights",
    "teacher.pred_probs",
    "storage.runs",
    "storage.cache",
    "adapt.images",
    "adapt.out",
    "notify.prometheus_file",
    "run.reference",
)
