"""What may a run be told? `config.yaml` as frozen models, one file per group of sections; unknown keys are refused.

For others: `Config` and its sections, all imported from here; `parse_config` (text to `Config`), `config_record`
(`Config` to plain values), `recorded_config` (and back) and `PATH_KEYS`. Relative paths are taken from the folder of
the config file, so a run does not depend on where it was started. `storage.parquet.read_config` reads the file.

The sections stand in `data`, `images`, `cleaning`, `costs`, `gates`, `review`, `run` and `adapt`; `whole` joins them, `loader`
reads them.
"""

from labelclean.config.adapt import AdaptConfig, ViewsConfig
from labelclean.config.cleaning import (
    METHODS,
    REFINEMENTS,
    CleaningConfig,
    NeighboursConfig,
    RefineConfig,
    RefineMethod,
    TeacherConfig,
)
from labelclean.config.costs import ClassCosts, ClassesConfig, CostsConfig
from labelclean.config.data import DataConfig, ExpectationsConfig, IngestConfig, RejectsConfig
from labelclean.config.gates import DistributionGateConfig, GatesConfig, Outcome, ShortcutsGateConfig, Top2GateConfig
from labelclean.config.images import BackboneConfig, Channels, DecodeConfig
from labelclean.config.loader import config_record, parse_config, recorded_config
from labelclean.config.review import FlagsConfig, LedgerConfig, ReviewConfig, SecretInConfig, StudyConfig
from labelclean.config.run import NotifyConfig, RunConfig, StorageConfig
from labelclean.config.whole import PATH_KEYS, Config, class_faults

__all__ = [
    "METHODS",
    "PATH_KEYS",
    "REFINEMENTS",
    "AdaptConfig",
    "BackboneConfig",
    "Channels",
    "ClassCosts",
    "ClassesConfig",
    "CleaningConfig",
    "Config",
    "CostsConfig",
    "DataConfig",
    "DecodeConfig",
    "DistributionGateConfig",
    "ExpectationsConfig",
    "FlagsConfig",
    "GatesConfig",
    "IngestConfig",
    "LedgerConfig",
    "NeighboursConfig",
    "NotifyConfig",
    "Outcome",
    "RefineConfig",
    "RefineMethod",
    "RejectsConfig",
    "ReviewConfig",
    "RunConfig",
    "SecretInConfig",
    "ShortcutsGateConfig",
    "StorageConfig",
    "StudyConfig",
    "TeacherConfig",
    "Top2GateConfig",
    "ViewsConfig",
    "class_faults",
    "config_record",
    "parse_config",
    "recorded_config",
]
