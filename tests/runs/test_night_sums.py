"""Whether a night's sums can be added to those of its reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from labelclean.cleaning.population import LearnedSums
from labelclean.config import config_record
from labelclean.errors import ConfigError
from labelclean.runs.night_sums import RunSums, check_reference
from labelclean.storage.parquet import read_config

ROOT = Path(__file__).parents[2]
NONE = np.empty((0, 0))


def left_by_a_night(num_rounds: int) -> RunSums:
    sums = LearnedSums((), (), ((),) * num_rounds, None)
    return RunSums(("a", "b"), "backbone", "decode", 0, 5, NONE, sums, NONE.astype(np.float16), NONE.astype(np.int64), {}, ())  # fmt: skip


@pytest.mark.parametrize(("method", "is_added"), [("multi_round", True), ("two_hot", True), ("posterior", False)])
def test_rounds_of_label_averaging_are_no_rounds_of_a_student(method: str, is_added: bool) -> None:
    settings = ["run.seed=0", "teacher.landmarks=0", "teacher.folds=5", f"refine.method={method}", "refine.rounds=3"]
    reference, config = left_by_a_night(1), read_config(ROOT / "config.yaml", settings)
    facts = (reference, Path("runs/1"), config, ("a", "b"), "backbone", "decode")
    if is_added:
        check_reference(*facts)
    else:
        with pytest.raises(ConfigError, match=r"refine\.rounds is 3, there 1"):
            check_reference(*facts)


def test_a_backbone_of_other_weights_is_told_where_no_setting_differs(tmp_path: Path) -> None:
    config = read_config(ROOT / "config.yaml", ["run.seed=0", "teacher.landmarks=0", "teacher.folds=5"])
    (tmp_path / "manifest.json").write_text(json.dumps({"config": config_record(config)}))
    with pytest.raises(ConfigError, match="features are others \\(what differs: no setting: its weights"):
        check_reference(left_by_a_night(1), tmp_path, config, ("a", "b"), "another", "decode")
