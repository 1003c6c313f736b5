"""What tells how training goes: self-retrieval, spread, effective rank, k-NN accuracy; and when it has collapsed."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from labelclean.arrays import BoolArray, IntArray
from labelclean.config.adapt import AdaptConfig
from labelclean.errors import GateError

MOST_ROWS = 4096
NUM_VOTERS = 20


def feature_spread(bank: torch.Tensor) -> float:
    """Return the standard deviation of unit features around their mean, all dimensions together.

    Args:
        bank: Unit rows, float32, shape (N, D).

    Returns:
        sqrt(1 - |mean|^2), in [0, 1]: 0 when all features are the same.
    """
    mean = bank.mean(dim=0, dtype=torch.float64)
    return math.sqrt(max(0.0, 1.0 - float(mean @ mean))) if bool(torch.isfinite(mean).all()) else math.nan


def effective_rank(bank: torch.Tensor) -> float:
    """Return in how many directions the features really differ (Roy and Vetterli 2007 [12]).

    The exponential of the entropy of the covariance's normalised eigenvalues, on at most 4,096
    rows evenly spaced.

    Args:
        bank: float32, shape (N, D).

    Returns:
        In [1, D]; 1 when all features lie on a line or in a point.
    """
    rows = bank[:: max(1, -(-len(bank) // MOST_ROWS))].double()
    if not bool(torch.isfinite(rows).all()):
        return math.nan
    centred = rows - rows.mean(dim=0)
    gram = centred @ centred.T if len(rows) < rows.shape[1] else centred.T @ centred
    values = torch.linalg.eigvalsh(gram).clamp(min=0)
    total = values.sum()
    if float(total) <= 1e-12:
        return 1.0
    shares = values / total
    return float(torch.exp(-(shares * torch.log(shares.clamp(min=1e-300))).sum()))


def neighbour_accuracy(
    bank: torch.Tensor, given: IntArray, is_held_out: BoolArray, num_classes: int, num_voters: int = NUM_VOTERS
) -> float:
    """Return how often the given labels of the nearest other images tell the given label of a held-out image.

    Args:
        bank: Unit rows, float32, shape (N, D).
        given: Given class, int64, shape (N,), -1 where there is none.
        is_held_out: Who is asked for, bool, shape (N,); the other labelled images vote by similarity.
        num_classes: K.
        num_voters: Nearest images that vote.

    Returns:
        Share in [0, 1]; NaN where nobody can vote or be asked.
    """
    asked = np.flatnonzero(is_held_out & (given >= 0))
    voting = np.flatnonzero(~is_held_out & (given >= 0))
    if not len(asked) or not len(voting):
        return math.nan
    voters, right = bank[torch.from_numpy(voting)], 0
    labels = torch.from_numpy(given[voting]).to(bank.device)
    for start in range(0, len(asked), 512):
        rows = asked[start : start + 512]
        similarity, index = (bank[torch.from_numpy(rows)] @ voters.T).topk(min(num_voters, len(voting)), dim=1)
        votes = torch.zeros(len(rows), num_classes, device=bank.device)
        votes.scatter_add_(1, labels[index], similarity.clamp(min=0))
        right += int((votes.argmax(dim=1).cpu() == torch.from_numpy(given[rows])).sum())
    return right / len(asked)


def share_of(flags: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> float:
    """Return the share of flagged rows among some rows; NaN where there are none."""
    return float(flags[among].mean()) if among.any() else math.nan


def check_alive(loss: float, spread: float, rank: float, epoch: int, config: AdaptConfig) -> None:
    """Refuse to go on after a collapse.

    Args:
        loss: Mean loss of the epoch.
        spread: `feature_spread` of the bank.
        rank: `effective_rank` of the bank.
        epoch: Counts from 0.
        config: Limits.

    Raises:
        GateError: If a number is not finite or under its limit.
    """
    faults = []
    if not all(math.isfinite(value) for value in (loss, spread, rank)):
        faults.append(
            f"loss and features must be finite, but the loss is {loss:.4g} and the feature spread {spread:.4g}"
        )
    if spread < config.min_feature_spread:
        faults.append(
            f"the feature spread must be at least {config.min_feature_spread:g} (adapt.min_feature_spread), but is "
            f"{spread:.4g}: all images look the same to the network"
        )
    if rank < config.min_effective_rank:
        faults.append(
            f"the features' effective rank must be at least {config.min_effective_rank:g} (adapt.min_effective_rank), "
            f"but is {rank:.3g}"
        )
    if faults:
        raise GateError(
            f"adapt, epoch {epoch + 1}: training has collapsed: {'; '.join(faults)}. Lower adapt.learning_rate or "
            "adapt.temperature, raise adapt.batch_size, or use adapt.mode 'plain'."
        )
