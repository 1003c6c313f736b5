"""The whole configuration: every section by its name."""

from __future__ import annotations

from labelclean.config.adapt import AdaptConfig
from labelclean.config.cleaning import CleaningConfig
from labelclean.config.data import DataConfig, ExpectationsConfig, IngestConfig, RejectsConfig
from labelclean.config.images import BackboneConfig, DecodeConfig
from labelclean.config.review import FlagsConfig, LedgerConfig, ReviewConfig, StudyConfig
from labelclean.config.run import NotifyConfig, RunConfig, StorageConfig


class Config(CleaningConfig):
    """The whole configuration."""

    data: DataConfig
    backbone: BackboneConfig
    run: RunConfig
    storage: StorageConfig
    decode: DecodeConfig = DecodeConfig()
    flags: FlagsConfig = FlagsConfig()
    review: ReviewConfig = ReviewConfig()
    study: StudyConfig = StudyConfig()
    rejects: RejectsConfig = RejectsConfig()
    expectations: ExpectationsConfig = ExpectationsConfig()
    ledger: LedgerConfig = LedgerConfig()
    adapt: AdaptConfig = AdaptConfig()
    ingest: IngestConfig = IngestConfig()
    notify: NotifyConfig = NotifyConfig()


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
