"""What was fitted to the sample, in a form that scores any block of samples: probes, neighbours' votes, and the models that join them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, Float64Array, IntArray
from labelclean.labels import GivenLabels
from labelclean.noise.model import NoiseModel, true_class_probs
from labelclean.noise.model_choice import pattern_log_odds
from labelclean.probes.neighbours import Neighbours, label_votes, nearest_of
from labelclean.probes.ridge import LinearProbe

PRIOR_VOTE = 0.5
LEAST_PROB = 1e-7

Voting = Callable[[Neighbours], Float32Array]
"""Similarity-weighted votes, (N, K), of neighbours that may be any samples of the data set."""


@dataclass(frozen=True)
class Block:
    """Some samples of a shard, sorted by fold; its rows are valid until the next block is asked for.

    Attributes:
        rows: For each design float32, shape (B, D) and (B, R).
        folds: int64, shape (B,), ascending.
        buckets: Hash bucket for bootstraps, int64, shape (B,).
        labels: Their given labels.
        samples: Row of each among the shard's samples, int64, shape (B,).
        is_old: Which are in the sums of a reference already, bool, shape (B,); None: none.
        near: Their neighbours, numbered over all samples; None where none were looked for.
        pred_probs: Probabilities of the user's own model, float32, shape (B, K); None where he brings none.
    """

    rows: tuple[Float32Array, ...]
    folds: IntArray
    buckets: IntArray
    labels: GivenLabels
    samples: IntArray
    is_old: BoolArray | None = None
    near: Neighbours | None = None
    pred_probs: Float32Array | None = None

    @property
    def new(self) -> Block:
        """The same without samples that a reference holds."""
        if self.is_old is None or not self.is_old.any():
            return self
        recent = np.flatnonzero(~self.is_old)
        taken: dict[str, Any] = {}
        for field in fields(self):
            values = getattr(self, field.name)
            if field.name == "rows":
                taken["rows"] = tuple(rows[recent] for rows in values)
            elif field.name in ("labels", "near"):
                taken[field.name] = None if values is None else values.take(recent)
            else:
                taken[field.name] = None if values is None else values[recent]
        return Block(**taken | {"is_old": None})


class Scorer(Protocol):
    """An expert of any samples."""

    def values(self, block: Block) -> Float32Array:
        """Return log-odds against the class shares, the sample's own label left out, float32, shape (B, K)."""


@dataclass(frozen=True)
class FoldProbes:
    """The probes of one design as an expert.

    Attributes:
        design: Which of a block's rows they score.
        probes: F probes, class shares and scale inside; probe f never saw fold f.
    """

    design: int
    probes: tuple[LinearProbe, ...]

    def values(self, block: Block) -> Float32Array:
        """Return the log-odds of some samples, float32, shape (B, K)."""
        rows, start = block.rows[self.design], 0
        values = np.empty((len(rows), len(self.probes[0].bias)), dtype=np.float32)
        ends = np.searchsorted(block.folds, np.arange(len(self.probes)), side="right")
        for probe, end in zip(self.probes, ends.tolist(), strict=True):
            np.matmul(rows[start:end], probe.weights, out=values[start:end])
            values[start:end] += probe.bias
            start = end
        return values


@dataclass(frozen=True)
class Voters:
    """The neighbours' votes as an expert.

    Attributes:
        votes: Votes of any neighbours.
        count: How many of the nearest vote.
        prior: Log class shares of all that vote, float64, shape (K,).
        scale: What the log of the vote shares is multiplied by.
    """

    votes: Voting
    count: int
    prior: Float64Array
    scale: float

    def values(self, block: Block) -> Float32Array:
        """Return the log-odds of some samples, float32, shape (B, K)."""
        if block.near is None:
            raise ValueError("an expert of neighbours must be given the samples' neighbours, but got None.")
        values = votes_against_shares(self.votes(nearest_of(block.near, self.count)), self.prior)
        return values * np.float32(self.scale)


@dataclass(frozen=True)
class OwnModel:
    """The probabilities of the user's own model as an expert.

    Attributes:
        prior: Log class shares of the given labels, float64, shape (K,).
    """

    prior: Float64Array

    def values(self, block: Block) -> Float32Array:
        """Return the log-odds of some samples, float32, shape (B, K)."""
        if block.pred_probs is None:
            raise ValueError("an expert of the user's own model must be given its probabilities, but got None.")
        return log_odds_of(block.pred_probs, self.prior)


@dataclass(frozen=True)
class Stage:
    """A teacher or a student.

    Attributes:
        scorers: Its experts.
        plain: Model of the given labels on these experts.
        noise: Model of the true class, on these experts and on its pattern expert where it has one.
        matrix: C, float64, shape (K, K).
    """

    scorers: tuple[Scorer, ...]
    plain: NoiseModel
    noise: NoiseModel
    matrix: Float64Array

    def values(self, block: Block) -> Float32Array:
        """Return the log-odds of some samples, their own label left out, float32, shape (E, B, K)."""
        return np.stack([scorer.values(block) for scorer in self.scorers])

    def given_probs(self, values: Float32Array) -> Float32Array:
        """Return P(given class | image) from log-odds, float32, shape (B, K), rows sum to 1."""
        return true_class_probs(self.plain, values)

    def true_probs(self, values: Float32Array) -> Float32Array:
        """Return P(true class | image) from log-odds, float32, shape (B, K), rows sum to 1."""
        if self.noise.pattern is not None:
            pattern = pattern_log_odds(self.given_probs(values), self.noise.pattern)
            values = np.concatenate([values, pattern[None]])
        return true_class_probs(self.noise, values)


def log_odds_of(pred_probs: Float32Array, prior: Float64Array) -> Float32Array:
    """Return the log of probabilities against the class shares.

    Args:
        pred_probs: float, shape (N, K).
        prior: Log class shares, float64, shape (K,).

    Returns:
        float32, shape (N, K).
    """
    return np.asarray(np.log(np.maximum(pred_probs.astype(np.float64), LEAST_PROB)) - prior, dtype=np.float32)


def votes_against_shares(votes: Float32Array, prior: Float64Array) -> Float32Array:
    """Return log of (votes + half a vote of the class shares), normalised, minus the log class shares.

    Args:
        votes: Similarity-weighted votes, float32, shape (N, K).
        prior: Log class shares of all that vote, float64, shape (K,).

    Returns:
        float32, shape (N, K); 0 for a sample without votes.
    """
    shares = (votes + PRIOR_VOTE * np.exp(prior)) / (votes.sum(axis=1, keepdims=True) + PRIOR_VOTE)
    return np.asarray(np.log(shares) - prior, dtype=np.float32)


def vote_shares(votes: Float32Array) -> Float32Array:
    """Return the class shares of votes, float32, shape (N, K); a row without votes is 0."""
    total = votes.sum(axis=1, keepdims=True)
    return np.asarray(votes / np.where(total > 0, total, 1.0), dtype=np.float32)


def votes_of(targets: Float32Array) -> Voting:
    """Return the votes of neighbours that are numbered as the rows of their targets, float32, shape (N, K)."""
    return lambda near: label_votes(near, targets)
