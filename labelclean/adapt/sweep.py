"""Short trainings on a small sample: which temperature and window suit these images, judged by given labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from labelclean.adapt.compare import SURE
from labelclean.adapt.image_cache import open_cache
from labelclean.adapt.image_set import gather_images
from labelclean.adapt.measures import NUM_VOTERS
from labelclean.adapt.neighbours import new_history
from labelclean.adapt.session import build_setup, cache_size, fresh_state, start_backbone
from labelclean.adapt.state import EpochRecord
from labelclean.adapt.train import train
from labelclean.adapt.world import World
from labelclean.arrays import IntArray
from labelclean.config import Config
from labelclean.errors import GateError
from labelclean.labels import one_hot
from labelclean.probes.neighbours import label_votes, nearest_neighbours, outside_group

TEMPERATURES = (0.0, 0.001, 0.01, 0.1)


class Trial(NamedTuple):
    """One short training.

    Attributes:
        temperature: tau; 0 is plain.
        window: V.
        accuracy: Given labels told by neighbours of other groups, share; NaN after a collapse.
        standard_error: Of the accuracy.
        bootstrapped_share: Mean over the epochs with partners.
        self_retrieval: Of the last epoch.
        effective_rank: Of the last epoch.
    """

    temperature: float
    window: int
    accuracy: float
    standard_error: float
    bootstrapped_share: float
    self_retrieval: float
    effective_rank: float


def sweep(config: Config, num_images: int, epochs: int) -> Iterator[Trial]:
    """Train shortly with each temperature and window.

    Args:
        config: The configuration.
        num_images: Labelled images of the sample; all if there are fewer.
        epochs: Epochs of each training.

    Yields:
        One trial after the other; the first is plain, and its window does not matter.
    """
    images, _ = gather_images(config, cache_size(config))
    cache = open_cache(images.cache)
    labelled = np.flatnonzero(images.given >= 0)
    rows = np.sort(np.random.default_rng(config.run.seed).permutation(labelled)[:num_images])
    sample = images._replace(
        groups=np.unique(images.groups[rows], return_inverse=True)[1].astype(np.int64),
        given=images.given[rows],
        is_held_out=images.is_held_out[rows],
    )
    for window in sorted({max(1, epochs // 4), max(1, epochs // 2)}):
        for temperature in TEMPERATURES:
            if temperature == 0 and window > max(1, epochs // 4):
                continue
            changed = {"mode": "adaptive", "epochs": epochs, "window": window, "temperature": temperature}
            own = config.model_copy(update={"adapt": config.adapt.model_copy(update=changed)})
            setup = build_setup(own, sample, start_backbone(own), World())
            state = fresh_state(own, setup)
            records: list[EpochRecord] = []
            history = new_history(window, setup.num_images, setup.config.neighbours)
            try:
                for record in train(state, setup, lambda some: cache.pixels(rows[some]), history):
                    records += [record] if isinstance(record, EpochRecord) else []
                right = told_by_neighbours(state.bank.cpu().numpy(), setup.groups, setup.given, setup.num_classes)
            except GateError:
                right = np.full(setup.num_images, np.nan)
            yield _trial(temperature, window, right, records)


def told_by_neighbours(bank: np.ndarray, groups: IntArray, given: IntArray, num_classes: int) -> np.ndarray:
    """Return whether the given labels of the nearest images of other groups tell an image's given label.

    Args:
        bank: Unit features, float32, shape (N, D).
        groups: int64, shape (N,).
        given: Given class, int64, shape (N,), in [0, K).
        num_classes: K.

    Returns:
        1 or 0, float64, shape (N,).
    """
    neighbours = nearest_neighbours(bank, NUM_VOTERS + 6)
    votes = label_votes(outside_group(neighbours, groups, bank, NUM_VOTERS), one_hot(given, num_classes))
    return np.asarray(votes.argmax(axis=1) == given, dtype=np.float64)


def advice(trials: list[Trial]) -> str:
    """Return what the trials say.

    Args:
        trials: As `sweep` gives them, the first plain.

    Returns:
        One sentence.
    """
    plain = trials[0]
    best = max(trials, key=lambda trial: -1.0 if np.isnan(trial.accuracy) else trial.accuracy)
    error = float(np.hypot(plain.standard_error, best.standard_error))
    if best.temperature == 0 or best.accuracy - plain.accuracy < SURE * error:
        return (
            f"No temperature is surely better than plain on this sample ({plain.accuracy:.1%} +- "
            f"{plain.standard_error:.1%}): keep the defaults, or try more images and epochs."
        )
    return f"Best here: --set adapt.temperature={best.temperature:g} --set adapt.window={best.window}"


def _trial(temperature: float, window: int, right: np.ndarray, records: list[EpochRecord]) -> Trial:
    late = [record.bootstrapped_share for record in records[window:]]
    last = records[-1] if records else None
    return Trial(
        temperature,
        window,
        float(right.mean()),
        float(right.std() / np.sqrt(len(right))),
        float(np.mean(late)) if late else 0.0,
        last.self_retrieval_1 if last else float("nan"),
        last.effective_rank if last else float("nan"),
    )
