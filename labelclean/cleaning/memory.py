"""How many bytes a run needs, and whether they are there: asked before anything starts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psutil

from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError
from labelclean.probes.index import MOST_WIDE_BYTES, WIDTHS, code_bytes
from labelclean.storage.tables import MANY_CLASSES, TOP_CLASSES

ROWS_PER_CLASS = 100
MOST_SAMPLE_ROWS = 200_000
MOST_BLOCK_ROWS = 16_384
LEAST_BLOCK_ROWS = 512
BLOCK_CELLS = 8_000_000
PROGRAM_BYTES = (
    880 * 2**20
)  # libraries 410; the rest is what their allocators and threads keep, as measured from 10^4 to 10^7
SAMPLE_BYTES = 88  # label, keys, near-duplicate set and group while they are joined
LIST_BYTES = 6 * 26
EXTRACTION_BYTES = 1400 * 2**20  # program, backbone, one batch, decoding processes
EXPECTATIONS_BYTES = 200 * 2**20  # Great Expectations over one part of the labels: 145 as measured
PROB_BYTES = 64  # a probability of the user's own while the file is read and checked: 63.5 as measured
PROB_ROW_BYTES = 400  # its sample beside: 370 as measured from 10^5 to 4 * 10^5
KNOWN_BYTES = 420  # a sample of tonight that the reference holds: 421 as measured from 10^5 to 4 * 10^5
UNITS = {
    "": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}


@dataclass(frozen=True)
class Size:
    """How large a data set is.

    Attributes:
        num_samples: N.
        num_dims: D.
        num_classes: K.
    """

    num_samples: int
    num_dims: int
    num_classes: int

    def __str__(self) -> str:
        """The three for people."""
        return f"{self.num_samples:,} samples with {self.num_dims:,} features and {self.num_classes:,} classes"


def memory_limit(text: int | str) -> int:
    """Return a number of bytes.

    Args:
        text: Bytes, or a number with KiB, MiB, GiB, TiB, KB, MB, GB or TB.

    Returns:
        Bytes.

    Raises:
        ConfigError: If it is none of these.

    Examples:
        >>> memory_limit("1.5KiB")
        1536
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B|)\s*", str(text))
    if match is None:
        raise ConfigError(f"max_memory must be bytes or a size such as '2GiB' or '500MB', but is {text!r}.")
    return int(float(match[1]) * UNITS[match[2]])


def available_memory() -> int:
    """Return the bytes that this process may still take: the machine's, or its control group's where that is less."""
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - used)


def block_rows(num_classes: int) -> int:
    """Return the rows of one block: few enough that its (B, K) arrays stay small with thousands of classes.

    Args:
        num_classes: K.

    Returns:
        B.

    Examples:
        >>> block_rows(20), block_rows(5000)
        (16384, 1600)
    """
    return max(LEAST_BLOCK_ROWS, min(MOST_BLOCK_ROWS, BLOCK_CELLS // num_classes))


def neighbours_need(size: Size, directions: int) -> int:
    """Return the bytes that neighbours by index need where there are more samples than are held: first the index and all groups, later what votes.

    Args:
        size: N, D and K.
        directions: R of the index, at most.

    Returns:
        The larger of the two: codes that grow by doubling, with a group per sample; or given labels and posteriors, which
        lie in files whose pages count as memory while they are looked at, by three threads at a time. And one block.
    """
    voting = 4 * size.num_classes if size.num_classes <= MANY_CLASSES else 6 * TOP_CLASSES
    filling = 2 * code_bytes(size.num_samples, directions) + 8
    block = MOST_BLOCK_ROWS * (8 * size.num_dims + 4 * directions + 16 * LIST_BYTES)
    return size.num_samples * max(filling, 3 * voting) + block


def streamed_need(size: Size, config: CleaningConfig, sample_rows: int) -> int:
    """Return the bytes that cleaning needs where there are more samples than those on which choices are made.

    Args:
        size: N, D and K.
        config: Sections `neighbours` and `teacher` are read.
        sample_rows: n, samples on which choices are made.

    Returns:
        Program, sums with their decompositions, matrices over classes, the sample and the blocks; some bytes per
        sample only for labels, keys and neighbours.
    """
    landmarks, folds = config.teacher.landmarks, config.teacher.folds
    dims, classes = size.num_dims, size.num_classes
    sums = 8 * folds * (3 * (dims**2 + landmarks**2) + 4 * classes * (dims + landmarks))
    matrices = 8 * 12 * classes**2
    sample = sample_rows * (6 * dims + 6 * landmarks + 4 * 16 * classes)
    block = block_rows(classes) * (12 * dims + 16 * landmarks + 4 * 24 * classes)
    near = 0
    if config.neighbours.method != "none":
        directions = index_directions(size.num_samples, dims)
        near = neighbours_need(size, directions) + sample_rows * (4 * directions + LIST_BYTES)
    each = SAMPLE_BYTES + _own_probs(size, config)
    return PROGRAM_BYTES + sums + matrices + sample + block + near + each * size.num_samples


def _own_probs(size: Size, config: CleaningConfig) -> int:
    """Bytes per sample of the user's own probabilities, which are held beside the labels."""
    return 0 if config.teacher.pred_probs is None else 4 * size.num_classes


def in_memory_need(size: Size, config: CleaningConfig) -> int:
    """Return the bytes that cleaning in memory needs in all.

    Args:
        size: N, D and K.
        config: Sections `neighbours` and `teacher` are read.

    Returns:
        Program, tables, features (raw, unit length, one copy), kernel rows, log-odds and neighbours.
    """
    landmarks, folds = min(config.teacher.landmarks, size.num_samples), config.teacher.folds
    dims, classes = size.num_dims, size.num_classes
    sums = 8 * folds * 3 * (dims**2 + landmarks**2) + 4 * 32 * dims**2
    near = 0 if config.neighbours.method == "none" else 40 * 12 + 4 * dims
    each = 1_500 + 4 * (3 * dims + 2 * landmarks + 24 * classes) + near + _own_probs(size, config)
    return PROGRAM_BYTES + sums + 8 * 12 * classes**2 + each * size.num_samples


def earlier_need(size: Size, config: CleaningConfig, *, has_reference: bool) -> int:
    """Return the bytes that a run needs before cleaning and gives back: for the images, or for what is read beside the labels.

    Args:
        size: N, D and K.
        config: `teacher.pred_probs` is read.
        has_reference: All samples may be in a reference's sums already; their ids are held.

    Returns:
        The larger of the two.
    """
    beside = KNOWN_BYTES if has_reference else 0
    if config.teacher.pred_probs is not None:
        beside += PROB_ROW_BYTES + PROB_BYTES * size.num_classes
    return max(EXTRACTION_BYTES, PROGRAM_BYTES + beside * size.num_samples)


def choice_rows(config: CleaningConfig, num_classes: int) -> int:
    """Return the samples on which choices are made, at most: `teacher.choice_rows`, but enough for every class.

    Args:
        config: Section `teacher` is read.
        num_classes: K.

    Returns:
        n.

    Examples:
        >>> choice_rows(CleaningConfig(), 20), choice_rows(CleaningConfig(), 1_000)
        (50000, 100000)
    """
    return max(config.teacher.choice_rows, min(ROWS_PER_CLASS * num_classes, MOST_SAMPLE_ROWS))


def index_directions(num_samples: int, num_dims: int) -> int:
    """Return how many directions a neighbour index has at most: its codes stay within 1 GiB, but of no fewer than 64.

    Args:
        num_samples: N.
        num_dims: D.

    Returns:
        R, at most D.

    Examples:
        >>> index_directions(10**5, 1280), index_directions(10**7, 1280)
        (1280, 64)
    """
    widths = [*(width for width in WIDTHS if width < num_dims), num_dims]
    return max((width for width in widths if 2 * width * num_samples <= MOST_WIDE_BYTES), default=widths[0])


def cleaning_need(size: Size, config: CleaningConfig) -> int:
    """Return the bytes that cleaning needs in all.

    Args:
        size: N, D and K.
        config: Sections `neighbours` and `teacher` are read.

    Returns:
        That of all samples in memory up to `teacher.choice_rows`; beyond, that of so many and of blocks.
    """
    rows = choice_rows(config, size.num_classes)
    return in_memory_need(size, config) if size.num_samples <= rows else streamed_need(size, config, rows)


def check_memory(
    size: Size, config: CleaningConfig, limit: int | None, key: str, *, before: int = 0, beside: int = 0
) -> int:
    """Refuse a data set that takes more memory than it may; how much there is changes no result.

    Args:
        size: N, D and K.
        config: Sections `neighbours` and `teacher` are read.
        limit: Bytes; None: no limit.
        key: What the limit is called.
        before: Bytes that are needed before cleaning, and given back.
        beside: Bytes that are needed throughout.

    Returns:
        The bytes that are needed.

    Raises:
        ConfigError: If the limit is less.
    """
    need = max(cleaning_need(size, config), before) + beside
    if limit is None or need <= limit:
        return need
    near = "" if config.neighbours.method == "none" else ", or leave neighbours out (neighbours.method: none)"
    remedy = (
        f"Allow more, or lower teacher.choice_rows ({config.teacher.choice_rows:,}), teacher.landmarks ({config.teacher.landmarks}) or "
        f"teacher.folds ({config.teacher.folds}){near}"
    )
    if before > cleaning_need(size, config):
        is_read = before > EXTRACTION_BYTES
        beside_labels = "teacher.pred_probs and the ids of run.reference, which are read beside the labels, take"
        remedy = f"Allow more: {beside_labels if is_read else 'decoding and extracting images takes'} that much"
    raise ConfigError(
        f"{key} must be at least {need / 2**20:,.0f} MiB for {size}, but is {limit / 2**20:,.0f} MiB. {remedy}. "
        "Nothing was started."
    )
