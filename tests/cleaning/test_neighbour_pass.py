"""Neighbours by index over shards: lists, near-duplicates and votes against slow loops, whole runs, resume, refusals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.large_peers import average_precision
from labelclean.cleaning import neighbour_pass, passes, streaming
from labelclean.cleaning.neighbour_lists import gathered_lists
from labelclean.cleaning.neighbour_pass import find_neighbours, joined
from labelclean.cleaning.passes import ShardSet
from labelclean.cleaning.sample import Chosen, choose_sample, read_sample
from labelclean.cleaning.shard_labels import read_shard_labels, sample_starts, shard_labels
from labelclean.cleaning.shards import HeldShard, find_shards
from labelclean.cleaning.stage import Block
from labelclean.cleaning.vote_targets import VoteTargets, join_targets, new_targets, put_targets, write_given_targets
from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError, StorageError
from labelclean.labels import GivenLabels, given_labels
from labelclean.noise.targets import given_targets
from labelclean.probes import index as neighbour_index
from labelclean.probes.feature_space import Centring, sample_keys
from labelclean.probes.neighbours import Neighbours
from labelclean.probes.sums import unit_block
from labelclean.storage.parquet import read_json

INDEX = CleaningConfig.model_validate({"neighbours": {"method": "index"}, "teacher": {"landmarks": 0}})
SIZES = (130, 1, 169)


@pytest.fixture
def _all_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that looks into every cell."""
    monkeypatch.setattr(neighbour_index, "LEAST_NEAR", 2.0)


def written(
    folder: Path, *, with_groups: bool = True, sample_rows: int = 1_000
) -> tuple[ShardSet, Chosen, np.ndarray, np.ndarray]:
    """Shards of which every seventh sample does not count; the set, a sample, and the unit rows and groups of all that do."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((sum(SIZES), 10)).astype(np.float32)
    groups = [f"lot{row // 5}" for row in range(sum(SIZES))]
    shards, labels, start = [], [], 0
    for number, size in enumerate(SIZES):
        np.save(folder / f"{number}.npy", rows[start : start + size])
        kept = np.arange(start, start + size) % 7 != 3
        at = start + np.flatnonzero(kept)
        lots = [groups[row] for row in at] if with_groups else None
        keys = sample_keys([str(row) for row in at], lots, num_folds=5, seed=0)
        shards.append(folder / f"{number}.npy")
        labels.append(folder / f"labels-{number}.npz")
        shard_labels(at % 3, keys, kept=kept).write(labels[-1])
        start += size
    chosen, found = choose_sample(labels, 3, sample_rows), find_shards(shards)
    mean = read_sample(found, chosen).mean(axis=0, dtype=np.float64)
    shard_set = ShardSet(found, tuple(labels), 3, 5, 1.0, Centring(mean), folder, "digest")
    counts = np.arange(sum(SIZES)) % 7 != 3
    numbers = np.unique(groups, return_inverse=True)[1][counts] if with_groups else np.arange(counts.sum())
    return shard_set, chosen, unit_block(rows[counts], mean), numbers


def searched(shard_set: ShardSet, chosen: Chosen, config: CleaningConfig = INDEX) -> tuple[ShardSet, float]:
    """The shards with lists of whatever group, and the recall."""
    unit_rows = unit_block(read_sample(shard_set.shards, chosen), shard_set.means[0])
    return find_neighbours(shard_set, chosen, unit_rows, config)


def of_all(shard_set: ShardSet) -> Neighbours:
    """Neighbours of all samples in order."""
    sizes = np.diff(sample_starts(shard_set.labels))
    rows = np.concatenate([np.arange(size) for size in sizes])
    return gathered_lists(shard_set.lists, np.repeat(np.arange(len(sizes)), sizes), rows, 1.0)


def strangers_of(shard_set: ShardSet, chosen: Chosen) -> Neighbours:
    """Neighbours of other groups of all samples in order."""
    return of_all(joined(searched(shard_set, chosen)[0], INDEX, is_vouched=False)[0])


def check_nearest(found: Neighbours, rows: np.ndarray, groups: np.ndarray, width: int) -> None:
    """Lists against a slow loop over all samples."""
    similarity = rows @ rows.T
    hits = 0
    for row in range(len(rows)):
        strangers = [other for other in range(len(rows)) if groups[other] != groups[row]]
        nearest = sorted(strangers, key=lambda other: -similarity[row, other])[:width]
        assert not set(found.index[row].tolist()) - set(strangers)
        hits += len(set(found.index[row].tolist()) & set(nearest))
        assert found.similarity[row] == pytest.approx(similarity[row, found.index[row]], abs=2e-3)
    assert found.index.shape == (len(rows), width)
    assert hits > 0.99 * found.index.size  # codes of two bytes swap those that are equally near


@pytest.mark.usefixtures("_all_cells")
@pytest.mark.parametrize("with_groups", [True, False])
def test_lists_are_those_of_a_slow_loop_over_all_that_count(tmp_path: Path, with_groups: bool) -> None:
    shard_set, chosen, rows, groups = written(tmp_path, with_groups=with_groups)
    done, recall = searched(shard_set, chosen)
    check_nearest(of_all(done), rows, np.arange(len(rows)), 26)
    after, _ = joined(done, INDEX, is_vouched=False)
    check_nearest(of_all(after), rows, groups, 20)
    assert recall > 0.99
    of_sample = neighbour_pass.neighbours_of(after, chosen, recall)
    assert np.array_equal(of_sample.index, of_all(after).index[chosen.numbers(sample_starts(shard_set.labels))])


@pytest.mark.usefixtures("_all_cells")
def test_a_group_that_fills_the_first_search_is_searched_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard_set, chosen, rows, _ = written(tmp_path)
    groups = np.where(np.arange(len(rows)) < 230, 7, 1_000 + np.arange(len(rows)))
    start = 0
    for path in shard_set.labels:
        known = read_shard_labels(path)
        replace(known, groups=groups[start : start + len(known)]).write(Path(str(path)))
        start += len(known)
    found = strangers_of(shard_set, chosen)
    assert (found.index[:230] >= 230).all()  # 26 places are mostly taken by the 230 of the same group
    monkeypatch.setattr(neighbour_pass, "MOST_WANTED", 27)
    short = strangers_of(replace(shard_set, digest="short"), chosen)
    assert (short.index[:230] < 0).any()
    assert (short.similarity[short.index < 0] == 0).all()


def test_the_recall_is_that_of_an_exact_search_among_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_pass, "MOST_PROBES", 8)
    monkeypatch.setattr(neighbour_index, "WIDTHS", (2, 4))
    monkeypatch.setattr(neighbour_pass, "index_directions", lambda num_samples, num_dims: 4)
    shard_set, chosen, rows, _ = written(tmp_path, with_groups=False)
    done, recall = searched(shard_set, chosen)
    similarity, found = rows @ rows.T, of_all(done)
    np.fill_diagonal(similarity, -9)
    queries = chosen.numbers(sample_starts(shard_set.labels))[np.sort(chosen.keys.order[:200])]
    hits = [
        len(set(np.argsort(-similarity[query])[:10].tolist()) & set(found.index[query, :20].tolist()))
        for query in queries.tolist()
    ]
    assert recall == pytest.approx(np.mean(hits) / 10, abs=0.01)
    assert recall < 0.95  # four directions of ten do not tell the nearest apart


def test_finished_index_and_lists_are_kept_and_those_of_other_data_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard_set, chosen, _, _ = written(tmp_path)
    (tmp_path / "whole").mkdir()
    whole, _ = searched(replace(shard_set, folder=tmp_path / "whole"), chosen)
    read: list[int] = []
    blocks = passes.Blocks.of

    def stops(self: passes.Blocks, number: int) -> Iterator[Block]:
        read.append(number)
        if len(read) in (2, 7):  # while the index is filled, and in the lists of shard 1
            raise KeyboardInterrupt
        return blocks(self, number)

    monkeypatch.setattr(passes.Blocks, "of", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            searched(shard_set, chosen)
    done, _ = searched(shard_set, chosen)
    assert read == [0, 1, 0, 1, 2, 0, 1, 1, 2]
    for one, other in zip(done.lists, whole.lists, strict=True):
        assert one.read_bytes() == other.read_bytes()
    searched(replace(shard_set, digest="other"), chosen)
    assert read[9:] == [0, 1, 2] * 2
    searched(shard_set, chosen, INDEX.model_copy(update={"neighbours": INDEX.neighbours.model_copy(update={"k": 5})}))
    assert read[15:] == [0, 1, 2] * 2


def slow_sets(rows: np.ndarray, features: np.ndarray, threshold: float) -> list[int]:
    """Lowest row of all that are joined by exact similarities of pairs, or by the same bytes; -1 for the others."""
    sets, similarity = list(range(len(rows))), rows.astype(np.float64) @ rows.T.astype(np.float64)
    for row in range(len(rows)):
        for other in range(row):
            is_near = similarity[row, other] >= threshold or (features[row] == features[other]).all()
            if is_near and sets[row] != sets[other]:
                low, high = sorted((sets[row], sets[other]))
                sets = [low if one == high else one for one in sets]
    return [one if sets.count(one) > 1 else -1 for one in sets]


def parts_with_twins() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Three parts: 30 copies of one image, near-duplicates across parts and a chain of them; mean and given classes."""
    random = np.random.default_rng(7)
    features = random.standard_normal((400, 12)).astype(np.float32)
    features[50:80] = features[3]
    features[300:320] = features[100:120] + np.float32(0.02) * random.standard_normal((20, 12)).astype(np.float32)
    for row in range(200, 206):
        features[row + 1] = features[row] + np.float32(0.1) * random.standard_normal(12).astype(np.float32)
    mean = features.mean(axis=0, dtype=np.float64)
    return [features[:150], features[150:151], features[151:]], mean, random.integers(0, 3, 400)


@pytest.mark.usefixtures("_all_cells")
def test_near_duplicates_of_all_parts_are_those_of_a_slow_loop_over_exact_similarities(tmp_path: Path) -> None:
    parts, mean, given = parts_with_twins()
    config = CleaningConfig.model_validate({"neighbours": {"method": "index", "duplicate_similarity": 0.99}})
    keys, starts = sample_keys([str(row) for row in range(400)], None, num_folds=5, seed=0), [0, 150, 151, 400]
    ranges = [np.arange(start, end) for start, end in itertools.pairwise(starts)]
    labels = tuple(shard_labels(given_labels(given[at], 3), keys.take(at)) for at in ranges)
    shards = tuple(HeldShard(part) for part in parts)
    shard_set = ShardSet(shards, labels, 3, 5, 1.0, Centring(mean), tmp_path, "d")
    after, unvouched = joined(searched(shard_set, choose_sample(labels, 3, 200), config)[0], config, is_vouched=False)
    known = [read_shard_labels(one) for one in after.labels]
    missing = [np.full(len(one), -1) for one in known]
    sets, conflicts = (
        np.concatenate(
            [
                none if getattr(one, name) is None else getattr(one, name)
                for one, none in zip(known, missing, strict=True)
            ]
        )
        for name in ("duplicate_sets", "conflict_sets")
    )
    features = np.concatenate(parts)
    slow = slow_sets(unit_block(features, mean), features, 0.99)
    assert sets.tolist() == slow
    assert len(set(slow)) > 20
    assert slow.count(3) == 31
    assert conflicts.tolist() == [one if one >= 0 and len(set(given[sets == one])) > 1 else -1 for one in slow]
    assert unvouched is not None
    assert np.flatnonzero(unvouched.is_copy).tolist() == [3, *range(50, 80)]
    folds = np.concatenate([one.folds for one in known])
    assert all(len(set(folds[sets == one].tolist())) == 1 for one in set(slow) - {-1})
    stands = np.concatenate(
        [none > 0 if one.stands is None else one.stands for one, none in zip(known, missing, strict=True)]
    )
    assert np.array_equal(stands, unvouched.is_copy | unvouched.is_alone)
    near = of_all(after)
    assert not ((near.index >= 0) & (sets[near.index] >= 0) & (sets[near.index] == sets[:, None])).any()


def odd_labels(num_samples: int, num_classes: int) -> GivenLabels:
    """One-hot labels, some of them verified, ruled out or of two minds."""
    random = np.random.default_rng(1)
    labels = given_labels(random.integers(0, num_classes, num_samples), num_classes)
    observed = labels.votes.copy()
    labels.votes[5] = np.eye(num_classes)[2]
    labels.candidates[5] = np.arange(num_classes) == 2
    labels.candidates[8, int(labels.votes[8].argmax())] = False
    labels.votes[11] = observed[11] = np.bincount([0, 1], minlength=num_classes) / 2
    return GivenLabels(labels.votes, labels.candidates, observed)


@pytest.mark.parametrize("num_classes", [4, 300])
def test_votes_from_the_disk_are_those_of_a_slow_loop(tmp_path: Path, num_classes: int) -> None:
    random = np.random.default_rng(2)
    labels = odd_labels(40, num_classes)
    parts, paths = (slice(0, 25), slice(25, 25), slice(25, 40)), []
    for number, rows in enumerate(parts):
        some = labels.take(np.arange(40)[rows])
        ids = [str(row) for row in range(40)][rows]
        paths.append(tmp_path / f"{number}.npz")
        shard_labels(some, sample_keys(ids, None, num_folds=3, seed=0)).write(paths[-1])
    write_given_targets(tmp_path / "votes.npy", paths, sample_starts(paths), num_classes)
    index = random.integers(-1, 40, (6, 7))
    similarity = random.uniform(-0.2, 1, (6, 7)).astype(np.float32)
    found = VoteTargets(tmp_path / "votes.npy", num_classes)(Neighbours(index, similarity))
    # a class ruled out spreads over all others: of 299 equal shares 32 are kept
    targets = given_targets(labels)
    wanted = np.zeros((6, num_classes))
    for row, place in np.ndindex(index.shape):
        if index[row, place] >= 0 and (num_classes == 4 or index[row, place] != 8):
            wanted[row] += similarity[row, place].clip(0) * targets[index[row, place]]
    assert found == pytest.approx(wanted, abs=1e-3 if num_classes == 4 else 4e-3)
    assert targets[5].tolist() == np.eye(num_classes)[2].tolist()


@pytest.mark.parametrize("num_classes", [20, 300])
def test_posteriors_of_single_shards_are_joined_in_order(tmp_path: Path, num_classes: int) -> None:
    random = np.random.default_rng(0)
    probs = np.zeros((5, num_classes), dtype=np.float32)
    probs[:, random.permutation(num_classes)[:20]] = random.dirichlet(np.ones(20), 5)  # 32 of 300 hold all of it
    for name, rows in (("a", [1, 0]), ("c", [2, 4, 3])):
        with new_targets(tmp_path / name, len(rows), num_classes) as kept:
            put_targets(kept, np.array(rows) - min(rows), probs[rows])
    join_targets(tmp_path / "all.npy", [tmp_path / name for name in "abc"], 5, num_classes)
    alone = Neighbours(np.arange(5)[:, None], np.ones((5, 1), dtype=np.float32))
    assert VoteTargets(tmp_path / "all.npy", num_classes)(alone) == pytest.approx(probs, abs=1e-3)
    assert not (tmp_path / "a").exists()


def rings(num_samples: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Many small clusters whose classes no plane tells apart; true and given classes, a tenth of them wrong."""
    random = np.random.default_rng(seed)
    cluster = random.integers(0, 48, num_samples)
    true = random.integers(0, 3, 48)[cluster]
    centres = random.standard_normal((48, 8))
    features = (centres[cluster] + 0.25 * random.standard_normal((num_samples, 8))).astype(np.float32)
    wrong = random.random(num_samples) < 0.1
    return features, true, np.where(wrong, (true + random.integers(1, 3, num_samples)) % 3, true)


def cleaned(folder: Path, features: np.ndarray, given: np.ndarray, groups: list[str] | None = None) -> pa.Table:
    """Table of a run out of core over three shards in `folder`, whose results go to `out`."""
    if not folder.exists():
        folder.mkdir()
        for number, rows in enumerate((slice(0, 400), slice(400, 401), slice(401, len(given)))):
            np.save(folder / f"{number}.npy", features[rows])
    streaming.clean_shards(
        features=folder, labels=given, groups=groups, out=folder / "out", seed=5, config=INDEX, sample_rows=500
    )
    return refined(folder / "out")


def refined(out: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((out / "refined_labels").glob("*.parquet"))])


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, pa.Table]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbour_index, "LEAST_NEAR", 2.0)
        folder = tmp_path_factory.mktemp("near") / "shards"
        features, _, given = rings(1_200)
        yield folder, cleaned(folder, features, given, [f"lot{row // 3}" for row in range(1_200)])


@pytest.mark.slow
def test_neighbours_find_what_planes_do_not(streamed: tuple[Path, pa.Table], tmp_path: Path) -> None:
    folder, table = streamed
    _, true, given = rings(1_200)
    none = {"neighbours": {"method": "none"}, "teacher": {"landmarks": 0, "choice_rows": 500}}
    streaming.clean_shards(features=sorted(folder.glob("*.npy")), labels=given, out=tmp_path / "o", seed=5, config=none)
    with_, without = (
        average_precision(one.column("label_score").to_numpy(), given != true)
        for one in (table, refined(tmp_path / "o"))
    )
    assert with_ > 0.85
    assert without < 0.7
    assert read_json(tmp_path / "o" / "summary.json")["neighbours"] is None
    assert read_json(folder / "out" / "summary.json")["neighbours"] == {"method": "index", "recall_at_10": 1.0}
    assert not list((folder / "out" / "work" / "neighbours").rglob("*.npy"))


@pytest.mark.slow
@pytest.mark.usefixtures("_all_cells")
def test_a_killed_run_with_neighbours_goes_on_and_ends_alike(
    streamed: tuple[Path, pa.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "CHECKPOINT_ROWS", 1)
    read: list[int] = []
    blocks = passes.Blocks.of

    def stops(self: passes.Blocks, number: int) -> Iterator[Block]:
        if len(read) in (7, 12, 15):  # lists, student, outputs
            read.append(-1)
            raise KeyboardInterrupt
        read.append(number)
        return blocks(self, number)

    monkeypatch.setattr(passes.Blocks, "of", stops)
    features, _, given = rings(1_200)
    lots = [f"lot{row // 3}" for row in range(1_200)]
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            cleaned(tmp_path / "killed", features, given, lots)
    table = cleaned(tmp_path / "killed", features, given, lots)
    assert [number for number in read if number >= 0] == [0, 1, 2] * 5
    assert table.equals(streamed[1])


def test_a_disk_that_refuses_the_index_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(index: object, file_name: str) -> None:
        raise RuntimeError("write error in: No space left on device")

    monkeypatch.setattr(neighbour_pass, "write_cells", full)
    shard_set, chosen, _, _ = written(tmp_path)
    with pytest.raises(StorageError, match="cannot be written: write error in: No space left"):
        searched(shard_set, chosen)
    assert not list((tmp_path / "neighbours").glob("*.npz"))


def test_what_needs_all_samples_in_memory_is_refused_beyond_those_that_choose(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((301, 2), np.float32))
    config = {"neighbours": {"method": "exact"}, "teacher": {"left_out": "group", "choice_rows": 300}}
    said = r"left_out must be auto or fold with more than 300 samples .*; neighbours.method must be auto, index or none"
    with pytest.raises(ConfigError, match=said):
        streaming.clean_shards(features=tmp_path, labels=np.arange(301) % 2, out=tmp_path / "o", seed=0, config=config)
    assert not (tmp_path / "o").exists()
