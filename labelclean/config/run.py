"""The sections about a run and where it leaves things: `run`, `storage` and `notify`."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from labelclean.sections import ConfigPath, Section, Share


class StorageConfig(Section):
    """Where runs and cached features live.

    Attributes:
        runs: Holds one folder per run and nothing else.
        cache: Features by image content; may be deleted at any time.
    """

    runs: ConfigPath = Field(default=Path("runs"), validate_default=True)
    cache: ConfigPath = Field(default=Path("cache"), validate_default=True)


class NotifyConfig(Section):
    """Who is told how a run ended; a webhook's URL comes from LABELCLEAN_WEBHOOK_URL only.

    Attributes:
        max_noise_change: The webhook is called when the share of labels expected to be wrong moved
            by more than this since the last good run.
        prometheus_file: Text file with the run's numbers for node_exporter's textfile collector;
            its name must end with .prom.
    """

    max_noise_change: Share = 0.05
    prometheus_file: ConfigPath | None = None

    @field_validator("prometheus_file")
    @classmethod
    def _read_by_the_collector(cls, path: Path | None) -> Path | None:
        if path is not None and path.suffix != ".prom":
            raise ValueError("must end with .prom, or node_exporter passes it over")
        return path


class RunConfig(Section):
    """How a run runs.

    Attributes:
        seed: Feeds every random draw; there is no default.
        device: `auto` takes a CUDA GPU when there is one.
        engine: What computes the backbone: `torch`, or `onnx` (ONNX Runtime, extra `onnx`; fp32 on a CPU, where small
            networks are three times as fast); `auto` is `onnx` where it is installed, the precision is fp32 on a CPU
            and its features agree with torch's.
        cluster: Ray cluster that extracts features and works on shards: `auto` (the one on this machine, else one
            started for the run) or HOST:PORT; default: this process.
        dataset: Name of the data set in manifests and locks; default: the labels' file name.
        window: Name of the night or lot that the run stands for, such as 2026-11-24; a window that
            has a good run is not cleaned again without --force. Default: every call runs.
        max_memory: Most memory that the run and its helpers may take, such as 2GiB; refused before anything
            starts where it does not suffice. Default: no limit.
        in_memory_samples: Labels of more samples are sorted on disk and worked on in many parts, and a killed run goes on
            where it stopped; what is found does not hang on it.
        reference: Run folder whose sums tonight's samples are added to: tonight's teacher knows all samples, at the cost of
            tonight's; neighbours and near-duplicates are sought among tonight's and those that the reference kept.
    """

    seed: int = Field(ge=0, lt=2**32)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    engine: Literal["auto", "torch", "onnx"] = "auto"
    cluster: str | None = Field(default=None, pattern=r"^(auto|[^\s/]+:\d+)$")
    dataset: str | None = None
    window: str | None = Field(default=None, pattern=r"^[0-9A-Za-z][0-9A-Za-z._:+-]{0,63}$")
    max_memory: str | None = Field(default=None, pattern=r"^\d+(\.\d+)? ?([KMGT]i?B)?$")
    in_memory_samples: int = Field(default=100_000, ge=0)
    reference: ConfigPath | None = None

    @field_validator("max_memory", mode="before")
    @classmethod
    def _bytes_are_a_size(cls, size: object) -> object:
        return str(size) if isinstance(size, int) else size

    @field_validator("window", mode="before")
    @classmethod
    def _a_date_is_a_name(cls, window: object) -> object:
        return window.isoformat() if isinstance(window, date) else window
