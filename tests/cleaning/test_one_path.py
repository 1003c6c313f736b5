"""One answer, however the samples are cut into shards and wherever they lie; with few that choose, near the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.cleaning import clean
from labelclean.cleaning.clean import clean_labels
from labelclean.cleaning.streaming import clean_shards
from labelclean.storage.tables import vectors

ALL_CHOOSE = {"teacher": {"landmarks": 100, "lambdas": [0.01, 0.1, 1.0]}}
FEW_CHOOSE = {"teacher": {**ALL_CHOOSE["teacher"], "choice_rows": 300}}


@dataclass(frozen=True)
class Labels:
    """What was found about all samples, in their order."""

    scores: np.ndarray
    predicted: np.ndarray
    issues: np.ndarray

    def check_equal(self, other: Labels, within: float) -> None:
        """Scores to some digits, predictions and issues without exception."""
        assert np.abs(self.scores - other.scores).max() <= within
        assert np.array_equal(self.predicted, other.predicted)
        assert np.array_equal(self.issues, other.issues)


@dataclass(frozen=True)
class Samples:
    """Features, float16, given labels and lots."""

    features: np.ndarray
    given: np.ndarray
    lots: list[str]

    @property
    def ids(self) -> list[str]:
        """An id for each."""
        return [f"s{row:05d}" for row in range(len(self.given))]

    def write(self, folder: Path, num_shards: int) -> Path:
        """Write Parquet shards of very different sizes."""
        folder.mkdir()
        random = np.random.default_rng(num_shards)
        cuts = np.sort(random.choice(np.arange(1, len(self.given)), num_shards - 1, replace=False)).tolist()
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(self.given)], strict=True)):
            at = slice(start, end)
            columns = {"sample_id": self.ids[at], "given_label": self.given[at], "group_id": self.lots[at]}
            table = pa.table(columns | {"feature": vectors(self.features[at])})
            pq.write_table(table, folder / f"shard-{number:02d}.parquet")
        return folder

    def in_memory(self, config: Mapping[str, Any]) -> Labels:
        """What `clean_labels` finds."""
        table = clean_labels(
            self.given, features=self.features, sample_ids=self.ids, groups=self.lots, seed=4, config=config
        ).table
        assert table.sample_id.tolist() == self.ids
        return Labels(*(table[name].to_numpy() for name in ("label_score", "predicted_label", "is_label_issue")))

    def on_disk(self, folder: Path, num_shards: int, config: Mapping[str, Any], cluster: str | None = None) -> Labels:
        """What `clean_shards` finds."""
        shards = self.write(folder / f"shards-{num_shards}", num_shards)
        out = folder / f"out-{num_shards}"
        clean_shards(features=shards, out=out, seed=4, config=config, cluster=cluster)
        table = refined(out)
        assert table["sample_id"].to_pylist() == self.ids
        names = ("label_score", "predicted_label", "is_label_issue")
        return Labels(*(table[name].to_numpy(zero_copy_only=False) for name in names))


def refined(out: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((out / "refined_labels").glob("*.parquet"))])


def planted(size: int, seed: int = 0) -> tuple[Samples, np.ndarray]:
    """Three classes of four clusters each in 24 dimensions, a tenth of the labels wrong; whose labels are wrong.

    Among them are lots of three, forty copies of one image and pairs that differ in the last digit.
    """
    random = np.random.default_rng(seed)
    cluster = random.integers(0, 12, size)
    features = 2.5 * random.standard_normal((12, 24))[cluster] + random.standard_normal((size, 24))
    features[100:140], cluster[100:140] = features[100], cluster[100]
    features[200:220], cluster[200:220] = 1.0005 * features[220:240], cluster[220:240]
    wrong = random.random(size) < 0.1
    given = (cluster % 3 + wrong * random.integers(1, 3, size)) % 3
    lots = [f"lot{row // 3}" if row < size // 2 else f"single{row}" for row in range(size)]
    return Samples(features.astype(np.float16), np.array(["dent", "ok", "stain"])[given], lots), wrong


def real_rows(real_data: Path, size: int = 5_000) -> Samples:
    """Features of MobileNetV2 with labels that people gave."""
    data = np.load(real_data / "datasets" / "people_labels.npz")
    return Samples(
        data["features"][:size], data["given_some"][:size].astype(np.int64), [f"{row}" for row in range(size)]
    )


@pytest.mark.slow
def test_shards_in_memory_and_on_disk_are_one_and_the_same(tmp_path: Path) -> None:
    samples, wrong = planted(600)
    found = samples.in_memory(ALL_CHOOSE)
    for num_shards in (1, 7, 40):
        samples.on_disk(tmp_path, num_shards, ALL_CHOOSE).check_equal(found, 1e-5)
    assert (found.issues & wrong).sum() > 0.8 * wrong.sum()
    assert (found.issues & ~wrong).mean() < 0.03


@pytest.mark.real
@pytest.mark.slow
def test_real_shards_in_memory_and_on_disk_are_one_and_the_same(real_data: Path, tmp_path: Path) -> None:
    samples = real_rows(real_data)
    found = samples.in_memory({})
    for num_shards in (1, 7, 40):
        samples.on_disk(tmp_path, num_shards, {}).check_equal(found, 1e-5)


@pytest.fixture(scope="module")
def few_choose(tmp_path_factory: pytest.TempPathFactory) -> tuple[Samples, np.ndarray, dict[str, Labels], Path]:
    """A third of 900 samples chooses, and all are scored block by block: in one part, in three, in one shard, in three."""
    samples, wrong = planted(900, seed=1)
    folder, found = tmp_path_factory.mktemp("few"), {}
    for num_parts in (1, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clean, "SHARD_ROWS", 900 // num_parts)
            found[f"{num_parts} in memory"] = samples.in_memory(FEW_CHOOSE)
        found[f"{num_parts} on disk"] = samples.on_disk(folder, num_parts, FEW_CHOOSE)
    return samples, wrong, found, folder


@pytest.mark.slow
def test_blocks_in_memory_and_on_disk_are_one_and_the_same(
    few_choose: tuple[Samples, np.ndarray, dict[str, Labels], Path],
) -> None:
    _, _, found, _ = few_choose
    first, *others = found.values()
    for other in others:
        other.check_equal(first, 1e-3)  # the targets that vote lie in float16, and scores rise steeply with the rank
        assert np.quantile(np.abs(other.scores - first.scores), 0.95) < 1e-4


@pytest.mark.slow
def test_blocks_find_the_planted_errors_as_all_together_do(
    few_choose: tuple[Samples, np.ndarray, dict[str, Labels], Path],
) -> None:
    samples, wrong, found, _ = few_choose
    whole = samples.in_memory(ALL_CHOOSE)
    for one in (found["3 on disk"], whole):
        assert (one.issues & wrong).sum() > 0.8 * wrong.sum()
        assert (one.issues & ~wrong).mean() < 0.03
    assert np.corrcoef(found["3 on disk"].scores, whole.scores)[0, 1] > 0.9
