"""What computes features: torch, or ONNX Runtime where it is installed and agrees with torch; ONNX Runtime's one home.

The engine is never chosen by a timing: a busy minute would decide what features a data set has.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from labelclean.errors import ConfigError, DeviceError
from labelclean.storage.parquet import make_folder

if TYPE_CHECKING:  # torch takes seconds to import
    import torch

Engine = Literal["torch", "onnx"]
LEAST_COSINE = 0.9999
BATCH_SIZE = 8  # more images at once leave the processor's cache: 32 were up to a third slower
_PACKAGES = ("onnxruntime", "onnxscript")  # computes; exports


class EngineError(Exception):
    """ONNX Runtime cannot take a network; the text says why, without a full stop."""


@dataclass(frozen=True)
class OnnxNetwork:
    """A frozen network that ONNX Runtime computes.

    Attributes:
        session: onnxruntime's session.
        batch_size: Images per call; the network accepts no other number.
    """

    session: Any
    batch_size: int

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return one row per image.

        Args:
            pixels: float32, shape (B, C, H, W), on the CPU, with B = `batch_size`.

        Returns:
            float32, shape (B, D).
        """
        import torch

        fed = {self.session.get_inputs()[0].name: pixels.numpy()}
        return torch.from_numpy(self.session.run(None, fed)[0])


def choose_engine(run_engine: str, device: torch.device, precision: str) -> Engine:
    """Return the engine to try.

    Args:
        run_engine: `run.engine`.
        device: Where features will be computed.
        precision: What `choose_precision` returned.

    Returns:
        What was asked for; `auto` is ONNX Runtime on a CPU that computes in fp32, where it is installed.

    Raises:
        ConfigError: If ONNX Runtime is asked for on a GPU or in another precision than fp32.
        DeviceError: If it is asked for and not installed.
    """
    fits = device.type == "cpu" and precision == "fp32"
    absent = [name for name in _PACKAGES if not _is_installed(name)]
    if run_engine == "auto":
        return "onnx" if fits and not absent else "torch"
    if run_engine == "torch":
        return "torch"
    if not fits:
        raise ConfigError(
            f"run.engine 'onnx' computes in fp32 on a CPU, but the device is {str(device)!r} and the precision {precision!r}; "
            "set run.device to 'cpu' and backbone.precision to 'fp32', or run.engine to 'auto'."
        )
    if absent:
        raise DeviceError(
            f"run.engine 'onnx' needs the packages {', '.join(_PACKAGES)}, but {', '.join(absent)} cannot be found; "
            "pip install 'labelclean[onnx]', or set run.engine to 'auto'."
        )
    return "onnx"


def engine_digest(digest: str, engine: Engine) -> str:
    """Return the digest of a backbone's features as an engine computes them.

    Args:
        digest: The backbone's.
        engine: What computes.

    Returns:
        The backbone's digest itself under torch, so that features of earlier versions stay valid.
    """
    return digest if engine == "torch" else hashlib.sha256(f"{digest} {engine}".encode()).hexdigest()


def onnx_network(
    module: torch.nn.Module, channels: int, input_size: tuple[int, int], batch_size: int, path: Path
) -> OnnxNetwork:
    """Return a network for ONNX Runtime, exported when the file is not there yet.

    Args:
        module: Maps (B, C, H, W) to (B, D), in evaluation mode, on the CPU.
        channels: C.
        input_size: H and W.
        batch_size: B.
        path: The exported file, named after everything that decides its content.

    Returns:
        The network, computing on as many threads as torch.

    Raises:
        EngineError: If it cannot be exported or loaded.
    """
    if path.is_file():
        with suppress(EngineError):  # a file that a full disk cut short
            return _opened(path, batch_size)
    _export(module, (batch_size, channels, *input_size), path)
    return _opened(path, batch_size)


def _export(module: torch.nn.Module, shape: tuple[int, ...], path: Path) -> None:
    import torch

    make_folder(path.parent)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's about itself
            torch.onnx.export(
                module.eval(), (torch.zeros(shape),), part, dynamo=True, external_data=False, verbose=False
            )
        part.replace(path)
    except Exception as fault:  # torch's exporter, onnxscript and onnx raise types of their own
        raise EngineError(f"it cannot be exported: {_line(fault)}") from None
    finally:
        part.unlink(missing_ok=True)


def _opened(path: Path, batch_size: int) -> OnnxNetwork:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # decoders want the cores
    try:
        return OnnxNetwork(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), batch_size)
    except Exception as fault:  # onnxruntime's errors have no common type
        raise EngineError(f"ONNX Runtime cannot load it: {_line(fault)}") from None


def made_batch(batch_size: int, channels: int, input_size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return images to compare engines on: coarse to fine noise, the same on every machine.

    Which engine computes is decided before the first image of a data set is read, for it names the feature store.

    Args:
        batch_size: B.
        channels: C.
        input_size: H and W.

    Returns:
        float32, in [0, 1], shape (B, C, H, W).
    """
    random = np.random.RandomState(0)  # its stream is frozen, a Generator's is not
    images = np.empty((batch_size, channels, *input_size), dtype=np.float32)
    for number, image in enumerate(images):
        step = 2 ** (number % 6)
        rows, columns = (-(-side // step) for side in input_size)
        coarse = random.random_sample((channels, rows, columns))
        image[:] = coarse.repeat(step, 1).repeat(step, 2)[:, : input_size[0], : input_size[1]]
    return images


def least_cosine(
    first: Sequence[npt.NDArray[np.floating]] | npt.NDArray[np.floating], second: npt.NDArray[np.floating]
) -> float:
    """Return the least cosine similarity of two engines' features of the same images.

    Args:
        first: One engine's, float, shape (B, D).
        second: The other's, likewise.

    Returns:
        In [-1, 1]; -1 where a feature is not finite.

    Examples:
        >>> least_cosine(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[6.0, 8.0], [1.0, 0.0]]))
        1.0
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = (one * other).sum(axis=1) / np.where(lengths == 0, 1.0, lengths)
    cosines[(one == other).all(axis=1)] = 1.0  # also where both are nothing
    return float(np.nan_to_num(cosines, nan=-1.0).min())


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _line(fault: Exception) -> str:
    """What an exception says on one line, without its last full stop; torch's exporter wraps it in advice."""
    cause = fault.__cause__ or fault
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}".rstrip(". :")
