"""The sections that turn an image into a feature row: `decode` and `backbone`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from labelclean.sections import ConfigPath, Section

Channels = Annotated[tuple[float, ...], Field(min_length=1, max_length=4)]


class DecodeConfig(Section):
    """How pixels become numbers; the same for features and for previews.

    Attributes:
        window: `full_range` maps 0..2^bits-1 to 0..1; `percentile` maps the image's own
            percentiles; `fixed` maps low..high; `auto` is full_range for 8-bit files and
            percentile for deeper ones.
        bit_depth: Bits really used in files deeper than 8 bits (12 for a 12-bit camera that
            writes 16-bit files); default: the container's depth.
        percentiles: Lower and upper percentile of the percentile window.
        low: Pixel value that becomes 0 under `fixed`.
        high: Pixel value that becomes 1 under `fixed`.
        max_pixels: Larger images are rejected before they are decoded.
        max_bytes: Larger files are rejected before they are read.
        timeout_s: Seconds one image may take to decode.
        page: What to do with files of several pages.
        jpeg: `scaled` decodes large JPEG files for the network at 1/2, 1/4 or 1/8 of their size, never below its
            input size: two to three times as fast; `full` decodes them whole.
    """

    window: Literal["auto", "full_range", "percentile", "fixed"] = "auto"
    bit_depth: Literal[8, 10, 12, 14, 16] | None = None
    percentiles: tuple[float, float] = (0.1, 99.9)
    low: float | None = None
    high: float | None = None
    max_pixels: int = Field(default=100_000_000, gt=0)
    max_bytes: int = Field(default=500_000_000, gt=0)
    timeout_s: float = Field(default=20.0, gt=0)
    page: Literal["refuse", "first"] = "refuse"
    jpeg: Literal["scaled", "full"] = "scaled"

    @model_validator(mode="after")
    def _window_is_whole(self) -> DecodeConfig:
        if self.window == "fixed" and (self.low is None or self.high is None or self.low >= self.high):
            raise ValueError(f"window 'fixed' needs low < high, found low={self.low!r}, high={self.high!r}")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError(f"percentiles must rise within 0..100, found {self.percentiles!r}")
        return self


class BackboneConfig(Section):
    """The frozen network that turns an image into a feature row.

    Attributes:
        name: A timm model name.
        pretrained: Fetch timm's own weights (needs the network once).
        weights: A local safetensors or state-dict file.
        sha256: Digest that the weights file must have.
        options: Keyword arguments for `timm.create_model`.
        mean: Channel means after scaling to 0..1; default: timm's data config.
        std: Channel standard deviations; default: timm's data config.
        input_size: Height and width in pixels, or one number; default: timm's data config.
        resize: `squash` keeps all of the image and changes its shape, `pad` keeps both,
            `crop` keeps the shape and loses the rim.
        depth: `last` takes the network's pooled output; `several` puts mean, maximum and spread of a middle stage beside
            it, which tell more of spots and textures, at no cost in computing and at most half more numbers.
        tiles: 1 shows the network all of an image at its input size, where a defect of few pixels vanishes if the image is
            large; 2x3 cuts it into 2 rows of 3 overlapping tiles of that size and takes mean and maximum over them: twice
            the numbers, the network's time for every tile; `auto` takes as many as the first thousand images need, at
            most 32, and `--dry-run` says how many.
        batch_size: Images per forward pass; default: 32 on CPU (8 under ONNX Runtime), 256 on GPU.
        precision: `auto` is bf16 where the device computes it fast, else fp32.
        workers: Decoding processes; default: from the number of cores.
    """

    name: str
    pretrained: bool = False
    weights: ConfigPath | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    options: dict[str, Any] = Field(default_factory=dict)
    mean: Channels | None = None
    std: Channels | None = None
    input_size: tuple[int, int] | None = None
    resize: Literal["squash", "pad", "crop"] = "squash"
    depth: Literal["last", "several"] = "last"
    tiles: Literal["auto", 1] | str = 1
    batch_size: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    workers: int | None = Field(default=None, ge=0)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles.

        Raises:
            ValueError: If `tiles` is `auto`, which the images have to settle first.
        """
        if self.tiles == "auto":
            raise ValueError("backbone.tiles 'auto' must be settled by the sizes of images before features are made")
        rows, _, columns = str(self.tiles).partition("x")
        return int(rows), int(columns or rows)

    @field_validator("tiles", mode="before")
    @classmethod
    def _rows_by_columns(cls, tiles: object) -> object:
        if str(tiles) in ("1", "1x1"):
            return 1
        if tiles != "auto" and not re.fullmatch("[1-9][0-9]?x[1-9][0-9]?", str(tiles)):
            raise ValueError(f"must be auto, 1, or rows x columns up to 99x99, such as 2x3, found {tiles!r}")
        return tiles

    @field_validator("input_size", mode="before")
    @classmethod
    def _one_number_is_a_square(cls, size: object) -> object:
        return (size, size) if isinstance(size, int) else size

    @field_validator("input_size")
    @classmethod
    def _not_tiny(cls, size: tuple[int, int] | None) -> tuple[int, int] | None:
        if size is not None and min(size) < 16:
            raise ValueError("must be at least 16 pixels")
        return size
