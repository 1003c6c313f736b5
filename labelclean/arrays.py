"""Names for the arrays of numbers that stand in signatures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
IntegerArray = npt.NDArray[np.integer]
"""Whole numbers of any width."""
BoolArray = npt.NDArray[np.bool_]
