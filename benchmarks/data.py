"""The data sets of the benchmark: features, true classes, and a clean 30 % kept apart."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.noise_kinds import KINDS
from labelclean.config import CleaningConfig, Config
from labelclean.labels import one_hot
from labelclean.probes.feature_space import build_feature_space
from labelclean.probes.ridge import fit_cross_entropy, out_of_fold_logits, softmax

IntArray = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]

TEST_SHARE = 0.3
ORACLE_DECAYS = (0.1, 0.3, 1.0, 3.0)
UNBALANCED_STEP = 0.635
SYNTHETIC = {2: (1500, 1.0), 6: (2200, 2.0), 20: (3000, 2.5), 100: (7000, 3.0)}
FEATURES = 64
WEIGHTS = "weights/mobilenetv2_100_imagenet1k.safetensors"
WEAK = (8, 24)
OVERLAPPING, OVERLAPPING_FILE = "infrared_modules", "infrared_modules.npz"
PEOPLE_FILE, PEOPLE_TRUTH_FILE = "people_labels.npz", "truth/people_labels.npy"
PEOPLE_ERRORS = {  # sets of labels that people gave, and their share of wrong ones, to name the cells with
    "people_few": 0.09,
    "people_some": 0.17,
    "people_many": 0.39,
    "people_votes": 0.08,
    "people_few_probs": 0.09,
    "people_many_probs": 0.39,
    "people_few_both": 0.09,
    "people_many_both": 0.39,
}
PEOPLE_RIGHT = "people_none"


@dataclass(frozen=True)
class DataSet:
    """One data set, split; only the benchmark itself holds it, never a method.

    Attributes:
        name: Its name in the table.
        features: Raw features to clean, float32, shape (N, D).
        true: Their true classes, int64, shape (N,).
        test_features: Features kept apart, float32, shape (M, D).
        test_true: Their true classes, int64, shape (M,).
        oracle: P(class | image) of an out-of-fold probe on the truth, float32, shape (N, K); only noise is made from it.
        people: Labels that people gave, int64, shape (N,); None where noise is made.
        votes: The same of several people, int64, shape (N, V), of whom ``people`` is the plurality; None with one each.
        pred_probs: Out-of-sample probabilities that a user hands over, float32, shape (N, K); None where he has none.
        hands_features: Whether he hands over the features too.
    """

    name: str
    features: Float32Array
    true: IntArray
    test_features: Float32Array
    test_true: IntArray
    oracle: Float32Array
    people: IntArray | None = None
    votes: IntArray | None = None
    pred_probs: Float32Array | None = None
    hands_features: bool = True

    @property
    def num_classes(self) -> int:
        """K."""
        return int(self.oracle.shape[1])


def real_names() -> list[str]:
    """Return the real sets below LABELCLEAN_REAL_DATA that have a truth; none without the variable."""
    root = os.environ.get("LABELCLEAN_REAL_DATA")
    if not root:
        return []
    folders = sorted(Path(root, "datasets").glob("*/labels.parquet"))
    truths = Path(root, "datasets", "truth")
    return [path.parent.name for path in folders if (truths / f"{path.parent.name}.parquet").is_file()]


def set_names(*, quick: bool) -> list[str]:
    """Return the names of all sets, or of those of the quick run, people's labels first."""
    names = [*PEOPLE_ERRORS, PEOPLE_RIGHT] if _stored(PEOPLE_TRUTH_FILE).is_file() else []
    names += [f"{name}{version}" for name in real_names() for version in ("", "-defect", "-one")] + ["digits"]
    names += [f"{name}-weak{dims}" for name in [*real_names(), "digits"] for dims in WEAK]
    names += [OVERLAPPING] if _stored(OVERLAPPING_FILE).is_file() else []
    if not quick:
        names += [f"{name}-unbalanced" for name in [*real_names(), "digits"]]
        names += [f"synthetic-{num_classes}" for num_classes in SYNTHETIC]
    return names


def load_set(name: str, cache: Path) -> DataSet | None:
    """Return a data set, with its oracle from the cache where it is there.

    Args:
        name: One of `set_names`.
        cache: Folder of features and oracles.

    Returns:
        The set; None where the version does not exist (`-defect` needs a class of more than half
        of the samples, `-unbalanced` a set that is balanced).
    """
    whole, _, dims = name.partition("-weak")
    if dims:
        seen = load_set(whole, cache)
        return None if seen is None else through_directions(seen, int(dims))
    if name in {*PEOPLE_ERRORS, PEOPLE_RIGHT}:
        return _people_set(name)
    base, _, version = (name, "", "") if name.startswith("synthetic-") else name.partition("-")
    features, true = _base(base, cache)
    version_rows = _version(true, version)
    if version_rows is None:
        return None
    rows, true = version_rows
    features = features[rows]
    is_test = kept_apart(true)
    train, kept = features[~is_test], true[~is_test]
    return DataSet(name, train, kept, features[is_test], true[is_test], _oracle(name, train, kept, cache))


def through_directions(data: DataSet, dims: int) -> DataSet:
    """Return a set whose features are seen through a few directions only, while its noise comes from the whole features.

    People see more than a backbone does: labels then go wrong where the features that are left cannot tell.

    Args:
        data: A set with its whole features.
        dims: How many random orthonormal directions are left, at most D; the same ones for every seed.

    Returns:
        The set by the name ``NAME-weakDIMS``.
    """
    centre = data.features.mean(axis=0, dtype=np.float64)
    drawn = np.random.default_rng([7, dims]).standard_normal((data.features.shape[1], dims))
    directions = np.linalg.qr(drawn)[0]
    seen, seen_test = (
        ((rows - centre) @ directions).astype(np.float32) for rows in (data.features, data.test_features)
    )
    return replace(data, name=f"{data.name}-weak{dims}", features=seen, test_features=seen_test)


def hands_probs(name: str) -> bool:
    """Return whether a user of this set hands over probabilities of a model of his own."""
    return name.endswith(("_probs", "_both"))


def noises_of(name: str, rates: Sequence[float]) -> list[tuple[str, float]]:
    """Return the noise kinds and rates of a set's cells.

    Args:
        name: One of `set_names`.
        rates: Those of the grid; people's labels have their own.

    Returns:
        Kind and rate; rate 0 has the one kind ``none``.
    """
    if name in PEOPLE_ERRORS:
        return [("people", PEOPLE_ERRORS[name])]
    if name == PEOPLE_RIGHT:
        return [("none", 0.0)]
    return [(kind, rate) for rate in rates for kind in (KINDS if rate else ["none"])]


def noisy_labels(data: DataSet, kind: str, rate: float, seed: int) -> IntArray:
    """Return the given labels of one cell: people's own, or a draw that hangs on the cell's name alone.

    Weak features have the draws of the whole ones.
    """
    if rate == 0:
        return data.true.copy()
    if data.people is not None:
        return data.people
    name = data.name.partition("-weak")[0]
    key = int(hashlib.sha256(f"{name} {kind} {rate} {seed}".encode()).hexdigest()[:12], 16)
    return KINDS[kind](data.true, data.oracle, rate, np.random.default_rng(key))


def plurality(votes: npt.NDArray[np.integer], num_classes: int) -> IntArray:
    """Return the class that most people named, ties by class order.

    Args:
        votes: One column per person, int, shape (N, V), in [0, K).
        num_classes: K.

    Returns:
        int64, shape (N,).

    Examples:
        >>> plurality(np.array([[2, 0, 2], [2, 0, 1]]), 3)
        array([2, 0])
    """
    counts = (votes[:, :, None] == np.arange(num_classes)).sum(axis=1)
    return np.asarray(counts.argmax(axis=1), dtype=np.int64)


def kept_apart(true: IntArray) -> npt.NDArray[np.bool_]:
    """Return which samples are kept apart: 30 % of each class, the same for every seed.

    Args:
        true: True classes, int64, shape (N,).

    Returns:
        bool, shape (N,).
    """
    rng, chosen = np.random.default_rng(11), np.zeros(len(true), dtype=bool)
    for k in np.unique(true):
        rows = np.flatnonzero(true == k)
        chosen[rng.choice(rows, round(TEST_SHARE * len(rows)), replace=False)] = True
    return chosen


def _stored(name: str) -> Path:
    """A file of the real sets; it need not exist."""
    return Path(os.environ.get("LABELCLEAN_REAL_DATA", "no real data"), "datasets", name)


def _people_set(name: str) -> DataSet:
    """Photos with the labels that people gave.

    ``people_votes``: three people each. Ours is given all votes; peers get the given label that the pipeline makes of
    them, the plurality with ties by class order.
    """
    _, which, *door = name.split("_")
    true = np.load(_stored(PEOPLE_TRUTH_FILE)).astype(np.int64)
    num_classes = int(true.max()) + 1
    is_test = kept_apart(true)
    with np.load(_stored(PEOPLE_FILE)) as stored:
        features = stored["features"].astype(np.float32)
        given = true if name == PEOPLE_RIGHT else stored[f"given_{which}"]
        probs = stored[f"pred_probs_{which}"][~is_test] if door else None
    votes = given[~is_test].astype(np.int64) if given.ndim == 2 else None
    given = plurality(given, num_classes) if given.ndim == 2 else given.astype(np.int64)
    return DataSet(
        name,
        features[~is_test],
        true[~is_test],
        features[is_test],
        true[is_test],
        one_hot(true[~is_test], num_classes),
        people=None if name == PEOPLE_RIGHT else given[~is_test],
        votes=votes,
        pred_probs=probs,
        hands_features=door != ["probs"],
    )


def _version(true: IntArray, version: str) -> tuple[IntArray, IntArray] | None:
    """Rows and classes of a version of a set."""
    counts, rows = np.bincount(true), np.arange(len(true))
    by_size = np.argsort(-counts, kind="stable")
    if version == "defect":
        return (rows, (true != by_size[0]).astype(np.int64)) if counts.max() > len(true) / 2 else None
    if version == "one":
        return rows, (true == by_size[1]).astype(np.int64)
    if version == "unbalanced":
        if counts.min() < counts.max() / 2:
            return None
        rng = np.random.default_rng(5)
        sizes = np.maximum(counts.min() * UNBALANCED_STEP ** np.arange(len(counts)), 20).astype(int)
        parts = [rng.choice(np.flatnonzero(true == k), size, replace=False) for k, size in enumerate(sizes)]
        kept = np.sort(np.concatenate(parts))
        return kept, true[kept]
    return rows, true


def _base(base: str, cache: Path) -> tuple[Float32Array, IntArray]:
    """Features and true classes of a whole set."""
    if base == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.data.astype(np.float32), digits.target.astype(np.int64)
    if base.startswith("synthetic-"):
        return synthetic(int(base.removeprefix("synthetic-")))
    if base == OVERLAPPING:
        with np.load(_stored(OVERLAPPING_FILE)) as stored:
            _, true = np.unique(stored["label"], return_inverse=True)
            return stored["features"].astype(np.float32), true.astype(np.int64)
    return real_features(base, cache)


def synthetic(num_classes: int) -> tuple[Float32Array, IntArray]:
    """Return one of the family: normal clouds around random centres, stretched by one random matrix.

    Args:
        num_classes: K, one of 2, 6, 20, 100.

    Returns:
        Features, float32, shape (N, 64), and classes, int64, shape (N,).
    """
    size, spread = SYNTHETIC[num_classes]
    rng = np.random.default_rng(num_classes)
    true = rng.permutation(np.arange(size) % num_classes)
    centres = rng.standard_normal((num_classes, FEATURES)) * spread / FEATURES**0.5
    stretch = rng.standard_normal((FEATURES, FEATURES)) / FEATURES**0.5
    points = centres[true] + 0.5 * rng.standard_normal((size, FEATURES))
    return (points @ stretch + 3).astype(np.float32), true


def real_features(name: str, cache: Path) -> tuple[Float32Array, IntArray]:
    """Return features and true classes of a real set, in the order of its ids, extracted by labelclean's own stage.

    Args:
        name: Folder below ``LABELCLEAN_REAL_DATA/datasets``.
        cache: Where labelclean's feature store lies.

    Returns:
        Features, float32, shape (N, D), and classes in the order of their names, int64, shape (N,).
    """
    import pandas as pd

    root = Path(os.environ["LABELCLEAN_REAL_DATA"]).resolve()
    folder = root / "datasets" / name
    truth = pd.read_parquet(root / "datasets" / "truth" / f"{name}.parquet")
    frame = pd.read_parquet(folder / "labels.parquet").merge(truth, on="sample_id").sort_values("sample_id")
    config = real_config(cache, folder / "labels.parquet")
    images = list(zip(frame.sample_id.tolist(), frame.image_path.tolist(), strict=True))
    _, true = np.unique(frame.true_label.to_numpy(dtype=str), return_inverse=True)
    return extracted(images, config, folder), true.astype(np.int64)


def real_config(cache: Path, labels: Path) -> Config:
    """Return how features of real images are made: MobileNetV2 at 224 pixels, with the weights beside the real data.

    Args:
        cache: Where labelclean's feature store lies.
        labels: The labels' file.

    Returns:
        The configuration.
    """
    weights = Path(os.environ["LABELCLEAN_REAL_DATA"]).resolve() / WEIGHTS
    options = {"name": "mobilenetv2_100", "weights": weights, "options": {"pad_type": "same"}}
    return Config.model_validate(
        {
            "data": {"labels": labels},
            "backbone": {**options, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "input_size": 224},
            "run": {"seed": 0, "device": "cpu"},
            "storage": {"cache": cache},
        }
    )


def extracted(images: list[tuple[str, str]], config: Config, folder: Path) -> Float32Array:
    """Return the features of images, from the store or the backbone.

    Args:
        images: Id and path, relative to ``folder``, of each.
        config: How they are made.
        folder: The image root.

    Returns:
        float32, shape (N, D), in the order of ``images``.
    """
    from labelclean.features.decode import decode_digest
    from labelclean.features.decoder_pool import ImageSource
    from labelclean.features.extraction import extract_missing, hash_images
    from labelclean.features.facts import backbone_facts
    from labelclean.features.store import feature_store

    sources = [ImageSource(*image) for image in images]
    hashes = hash_images(sources, config, folder, lambda _: None).content_hashes
    facts = backbone_facts(config)
    decode = decode_digest(config.decode, facts.input_size, config.backbone.resize)
    store = feature_store(config.storage.cache, facts.digest, decode, facts.num_features)
    known = store.known()
    missing = {hashes[one.sample_id]: one for one in sources if hashes[one.sample_id] not in known}
    if missing:
        extract_missing(missing.values(), store, facts, config, folder, lambda _: None)
    return store.read([hashes[one.sample_id] for one in sources])


def _oracle(name: str, features: Float32Array, true: IntArray, cache: Path) -> Float32Array:
    """P(class | image) of an out-of-fold cross-entropy probe on the truth, weight decay by its likelihood."""
    digest = hashlib.sha256(features.tobytes() + true.tobytes()).hexdigest()[:16]
    path = cache / "oracles" / f"{name}-{digest}.npy"
    if path.is_file():
        return np.asarray(np.load(path), dtype=np.float32)
    config = CleaningConfig()
    design = build_feature_space(features, [str(row) for row in range(len(true))], None, config, seed=0).design
    best, found = -np.inf, np.zeros(0, dtype=np.float32)
    for decay in ORACLE_DECAYS:
        probes = fit_cross_entropy(design, one_hot(true, int(true.max()) + 1), decay)
        probs = softmax(out_of_fold_logits(design, probes))
        likelihood = float(np.log(probs[np.arange(len(true)), true] + 1e-9).mean())
        if likelihood > best:
            best, found = likelihood, probs
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.npy")
    np.save(part, found)
    part.replace(path)
    return found
