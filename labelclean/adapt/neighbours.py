"""Which image an image is compared with: nearest entries of the feature bank, votes over epochs, gate and draw (P2 [8]).

The bank holds each image's last momentum feature. An image whose own past is its best
neighbour is trusted to choose a partner among its neighbours; any other is its own partner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from labelclean.arrays import BoolArray, Float32Array, Float64Array, IntArray
from labelclean.config.adapt import Mode

Int32Array = npt.NDArray[np.int32]

BANK_BLOCK = 65_536
VOTE_BLOCK = 2_000_000
COLDEST, HOTTEST = 1e-6, 1e3
HALVINGS = 50


@dataclass(frozen=True)
class History:
    """The nearest entries of the last V epochs; epoch e stands in slot e modulo V.

    Attributes:
        index: Row numbers, int32, shape (V, N, k), -1 where there is none.
        similarity: Their cosine similarities, float32, shape (V, N, k).
    """

    index: Int32Array
    similarity: Float32Array


@dataclass(frozen=True)
class WindowNeighbours:
    """Each image's k strongest neighbours over the window, strongest first.

    Attributes:
        index: Row numbers, int32, shape (N, k), -1 where there are fewer.
        score: Sum of similarities over the window divided by V, float32, shape (N, k); 0 beside a -1.
    """

    index: Int32Array
    score: Float32Array


def new_history(window: int, num_images: int, num_neighbours: int) -> History:
    """Return a history in which nobody has a neighbour yet.

    Args:
        window: V.
        num_images: N.
        num_neighbours: k.

    Returns:
        The history, in memory.
    """
    shape = (window, num_images, num_neighbours)
    return History(np.full(shape, -1, dtype=np.int32), np.zeros(shape, dtype=np.float32))


def nearest_entries(
    features: torch.Tensor, bank: torch.Tensor, is_filled: torch.Tensor, num_neighbours: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the entries of the bank that are most similar to some features.

    Args:
        features: Unit rows, float32, shape (B, D).
        bank: Unit rows, float32, shape (N, D).
        is_filled: Entries that hold a feature, bool, shape (N,).
        num_neighbours: k, at most N.

    Returns:
        Row numbers, int32, shape (B, k), most similar first, -1 where fewer are filled; and their
        cosine similarities, float32, shape (B, k), 0 beside a -1. The image's own entry is one like any other.
    """
    shape = (len(features), num_neighbours)
    best = torch.full(shape, -torch.inf, device=features.device)
    index = torch.full(shape, -1, dtype=torch.int64, device=features.device)
    for start in range(0, len(bank), BANK_BLOCK):
        block = features @ bank[start : start + BANK_BLOCK].T
        block.masked_fill_(~is_filled[start : start + BANK_BLOCK], -torch.inf)
        similarity, place = block.topk(min(num_neighbours, block.shape[1]), dim=1)
        best, order = torch.cat([best, similarity], 1).topk(num_neighbours, dim=1)
        index = torch.cat([index, place + start], 1).gather(1, order)
    is_empty = best == -torch.inf
    return index.masked_fill(is_empty, -1).int(), best.masked_fill(is_empty, 0.0)


def window_neighbours(history: History, groups: IntArray | None = None) -> WindowNeighbours:
    """Return whom each image has been near to over the window.

    The vote for j is the sum of similarities over the epochs in which j was among the nearest.
    Ties go to the image itself, then to the lower row number.

    Args:
        history: The last V epochs.
        groups: Group of each image, int64, shape (N,): other images of the own group get no vote. Default: all do.

    Returns:
        The k strongest, rows aligned with the history's images.
    """
    window, num_images, num_kept = history.index.shape
    neighbours = WindowNeighbours(
        np.full((num_images, num_kept), -1, dtype=np.int32), np.zeros((num_images, num_kept), dtype=np.float32)
    )
    size = max(1, VOTE_BLOCK // (window * num_kept))
    for start in range(0, num_images, size):
        rows = np.arange(start, min(start + size, num_images))
        _add_block(history, groups, rows, neighbours)
    return neighbours


def _add_block(history: History, groups: IntArray | None, rows: IntArray, neighbours: WindowNeighbours) -> None:
    """Count the votes of some images."""
    window, num_images, num_kept = history.index.shape
    neighbour = history.index[:, rows[0] : rows[-1] + 1].transpose(1, 0, 2).reshape(len(rows), -1).astype(np.int64)
    similarity = history.similarity[:, rows[0] : rows[-1] + 1].transpose(1, 0, 2).reshape(len(rows), -1)
    image = np.broadcast_to(rows[:, None], neighbour.shape)
    counts = neighbour >= 0
    if groups is not None:
        counts &= (groups[neighbour] != groups[image]) | (neighbour == image)
    pair, place = np.unique(image[counts] * num_images + neighbour[counts], return_inverse=True)
    total = np.bincount(place, weights=similarity[counts], minlength=len(pair))
    image, neighbour = pair // num_images, pair % num_images
    order = np.lexsort((neighbour, neighbour != image, -total, image))
    image, neighbour, total = image[order], neighbour[order], total[order]
    rank = np.arange(len(image)) - np.searchsorted(image, image)
    is_best = rank < num_kept
    neighbours.index[image[is_best], rank[is_best]] = neighbour[is_best]
    neighbours.score[image[is_best], rank[is_best]] = total[is_best] / window


def recognises_itself(neighbours: WindowNeighbours) -> BoolArray:
    """Return the gate: whether an image's own past is its strongest neighbour.

    Args:
        neighbours: Those of N images.

    Returns:
        bool, shape (N,).
    """
    return np.asarray(neighbours.index[:, 0] == np.arange(len(neighbours.index)))


def draw_partners(neighbours: WindowNeighbours, mode: Mode, temperature: float, rng: np.random.Generator) -> IntArray:
    """Return the partner of each image for one epoch.

    Args:
        neighbours: Those of N images.
        mode: `plain`: always itself. `naive`: one of the others in its list, each as likely, no
            gate. `adaptive`: itself unless the gate opens, then by softmax(score / temperature).
        temperature: tau, at least 0; 0 is the limit, the strongest neighbour, hence the image itself.
        rng: Random numbers for nothing else; every call draws N.

    Returns:
        Row numbers, int64, shape (N,).
    """
    own = np.arange(len(neighbours.index))
    uniform = rng.uniform(size=len(own))
    if mode == "plain":
        return own
    probs = _naive_probs(neighbours) if mode == "naive" else partner_probs(neighbours, temperature)
    reached = np.cumsum(probs, axis=1)
    place = (uniform[:, None] * reached[:, -1:] >= reached).sum(axis=1)  # first place whose sum exceeds the draw
    place = np.minimum(place, probs.shape[1] - 1)
    drawn = neighbours.index[own, place].astype(np.int64)
    may_choose = reached[:, -1] > 0
    if mode == "adaptive":
        may_choose &= recognises_itself(neighbours)
    return np.where(may_choose, drawn, own)


def partner_probs(neighbours: WindowNeighbours, temperature: float) -> Float64Array:
    """Return how likely each of the kept neighbours is drawn where the gate is open.

    Args:
        neighbours: Those of N images.
        temperature: tau, at least 0.

    Returns:
        float64, shape (N, k), rows sum to 1, or to 0 for an image without a neighbour.

    Examples:
        >>> neighbours = WindowNeighbours(np.array([[0, 1]], dtype=np.int32), np.array([[0.9, 0.9]], dtype=np.float32))
        >>> partner_probs(neighbours, 0.001), partner_probs(neighbours, 0)
        (array([[0.5, 0.5]]), array([[1., 0.]]))
    """
    is_neighbour = neighbours.index >= 0
    if temperature == 0:
        return np.asarray(is_neighbour & (np.arange(neighbours.index.shape[1]) == 0), dtype=np.float64)
    behind = (neighbours.score - neighbours.score[:, :1]).astype(np.float64)
    raised = np.where(is_neighbour, np.exp(np.minimum(behind / temperature, 0.0)), 0.0)
    return np.asarray(raised / np.maximum(raised.sum(axis=1, keepdims=True), 1e-300))


def _naive_probs(neighbours: WindowNeighbours) -> Float64Array:
    others = (neighbours.index >= 0) & (neighbours.index != np.arange(len(neighbours.index))[:, None])
    return np.asarray(others / np.maximum(others.sum(axis=1, keepdims=True), 1))


def automatic_temperature(neighbours: WindowNeighbours, self_retrieval: float, bootstrap_share: float) -> float:
    """Return the temperature at which the expected share of images with another partner is as wished.

    The more images find their own past first, the better the features tell images apart, and the
    further a neighbourhood can be trusted. The wished share is therefore ``bootstrap_share`` times
    the self-retrieval rate; the temperature that gives it is found by bisection, for the share
    grows with the temperature.

    Args:
        neighbours: Those of N images.
        self_retrieval: Share of the images whose nearest entry was their own, in [0, 1].
        bootstrap_share: In [0, 1].

    Returns:
        tau in [1e-6, 1e3]; an end of that range where the share cannot be reached.
    """
    wanted = bootstrap_share * self_retrieval
    is_open = recognises_itself(neighbours)
    cold, hot = np.log(COLDEST), np.log(HOTTEST)
    for _ in range(HALVINGS):
        middle = (cold + hot) / 2
        own_share = partner_probs(neighbours, float(np.exp(middle)))[:, 0]
        if float((is_open * (1 - own_share)).mean()) < wanted:
            cold = middle
        else:
            hot = middle
    return float(np.exp((cold + hot) / 2))
