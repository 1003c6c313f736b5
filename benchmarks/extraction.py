"""Images per second: the bare backbone, `labelclean run`'s extraction, a DataLoader loop, and two Ray nodes.

All routes of a set run in one process, one after the other, in rounds that take turns, so that a busy machine is
unkind to all of them; the best round counts. CPU milliseconds per image (decoders included) are told beside it,
for they hang less on who else is at work.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from labelclean.config import Config, parse_config
from labelclean.features.backbone import Backbone, build_backbone, choose_device, choose_precision
from labelclean.features.decoder_pool import ImageSource
from labelclean.features.extraction import BackboneFacts, extract_missing
from labelclean.features.forward import extract_features
from labelclean.features.store import FeatureStore

WEIGHTS = "weights/mobilenetv2_100_imagenet1k.safetensors"
MADE = (640, 480)


@dataclass(frozen=True)
class Rate:
    """The best round of a route."""

    images_per_s: float
    cpu_ms: float


def made_images(folder: Path, count: int) -> list[ImageSource]:
    """Write colour JPEG files of 640 x 480 with camera-like noise; each is another picture."""
    for number in range(count):
        random = np.random.default_rng(number)
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(MADE, Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = smooth + 8 * random.standard_normal(smooth.shape, dtype=np.float32)
        file = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=88)
        (folder / f"{number}.jpg").write_bytes(file.getvalue())
    return [ImageSource(str(number), f"{number}.jpg") for number in range(count)]


def bare(backbone: Backbone, device: torch.device, precision: Any, size: int, count: int) -> Callable[[], int]:
    """Return the backbone alone, on one batch of tensors that lies on the device already."""
    module = backbone.module.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = torch.rand(size, len(backbone.mean), *backbone.input_size, device=device)
    batch = batch.contiguous(memory_format=torch.channels_last)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]

    def run() -> int:
        for _ in range(0, count, size):
            with torch.inference_mode(), torch.autocast(device.type, kind, enabled=precision != "fp32"):
                module(batch).float().cpu()
        return -(-count // size) * size

    return run


def ours(
    sources: list[ImageSource], root: Path, facts: BackboneFacts, config: Config, scratch: Path
) -> Callable[[], int]:
    """Return the extraction of `labelclean run`, into a new store, the building of the backbone left out."""
    from labelclean.features.extraction import Extractor

    kept: list[Extractor] = []

    def run() -> int:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            store = FeatureStore(Path(folder), facts.num_features)
            if config.run.cluster is not None:
                extract_missing(sources, store, facts, config, root, lambda _: None)
                return len(sources)
            extractor = Extractor(store, facts, config, root, backbone=kept[0].backbone if kept else None)
            extractor.extract(sources, lambda _: None)
            kept.append(extractor)
        return len(sources)

    return run


class Files(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """What a user writes: Pillow, resize, tensor."""

    def __init__(self, root: Path, sources: list[ImageSource], size: tuple[int, int]) -> None:
        self.paths, self.size = [root / str(source.image_path) for source in sources], size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        image = Image.open(self.paths[row]).convert("RGB").resize(self.size[::-1], Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), row


def loader_loop(
    backbone: Backbone, root: Path, sources: list[ImageSource], precision: Any, device: torch.device, size: int
) -> Callable[[], int]:
    """Return a plain DataLoader loop with one worker around the same network in the same precision."""
    files = Files(root, sources, backbone.input_size)

    def batches() -> Iterable[np.ndarray]:
        for images, _ in torch.utils.data.DataLoader(files, batch_size=size, num_workers=1):
            yield images.numpy().astype(np.float32) / 255.0

    def run() -> int:
        common: dict[str, Any] = {"batch_size": size, "device": device, "precision": precision}
        rows = extract_features(backbone.module, batches(), mean=backbone.mean, std=backbone.std, **common)
        return sum(len(one) for one in rows)

    return run


def best_rates(routes: dict[str, Callable[[], int]], rounds: int) -> dict[str, Rate]:
    """Return the best of some rounds of each route; rounds take turns."""
    best: dict[str, Rate] = {}
    for name, route in routes.items():
        if name != "two Ray nodes":
            route()  # warm
    for _ in range(rounds):
        for name, route in routes.items():
            with _cpu_seconds() as cpu:
                start = time.perf_counter()
                count = route()
                wall = time.perf_counter() - start
            rate = Rate(count / wall, 1e3 * cpu[0] / count)
            if name not in best or rate.images_per_s > best[name].images_per_s:
                best[name] = rate
    return best


class _cpu_seconds:  # noqa: N801 - used like a function
    """CPU seconds of this process and its ended children while the block runs."""

    def __enter__(self) -> list[float]:
        self.start, self.found = self._now(), [0.0]
        return self.found

    def __exit__(self, *_: object) -> None:
        self.found[0] = self._now() - self.start

    @staticmethod
    def _now() -> float:
        times = psutil.Process().cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)


def measured(
    name: str, sources: list[ImageSource], root: Path, shared: Path, options: argparse.Namespace
) -> Iterator[str]:
    """Yield the table's lines of one set."""
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        text = (
            f"data: {{labels: {scratch / 'labels.parquet'}}}\n"
            f"backbone: {{name: mobilenetv2_100, weights: {shared / WEIGHTS}, options: {{pad_type: same}}, "
            "mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], input_size: 224}\nrun: {seed: 0}\n"
        )
        config = parse_config(text, folder=scratch, origin="benchmark", overrides=options.set, cwd=scratch)
        device = choose_device(config.run.device)
        precision = choose_precision(config.backbone.precision, device)
        backbone = build_backbone(config.backbone, precision)
        facts = BackboneFacts(backbone.name, backbone.digest, backbone.num_features, backbone.input_size)
        size = config.backbone.batch_size or (256 if device.type == "cuda" else 32)
        routes: dict[str, Callable[[], int]] = {
            "bare backbone": bare(backbone, device, precision, size, len(sources)),
            "labelclean run": ours(sources, root, facts, config, scratch),
            "DataLoader loop": loader_loop(backbone, root, sources, precision, device, size),
        }
        if options.ray:
            nodes = config.model_copy(update={"run": config.run.model_copy(update={"cluster": options.ray})})
            routes["two Ray nodes"] = ours(sources, root, facts, nodes, scratch)
        rates = best_rates(routes, options.rounds)
    full = rates["bare backbone"].images_per_s
    for route, rate in rates.items():
        yield (
            f"| {name} | {route} | {device.type}, {precision} | {rate.images_per_s:.1f} | {rate.images_per_s / full:.0%} | "
            f"{rate.cpu_ms:.1f} |"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", metavar="ADDRESS", help="also measure a Ray cluster: auto or HOST:PORT")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for labelclean run")
    options = parser.parse_args()
    shared = Path(os.environ["LABELCLEAN_REAL_DATA"])
    tile = shared / "datasets" / "magnetic_tile"
    names = sorted(path.name for path in (tile / "images").iterdir())[: options.images]
    print("| images | route | device | images/s | of bare | CPU ms/image |\n|---|---|---|---|---|---|")
    files = [ImageSource(name, name) for name in names]
    for line in measured("magnetic_tile", files, tile / "images", shared, options):
        print(line, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        made = made_images(Path(folder), options.images)
        for line in measured("made, 640 x 480", made, Path(folder), shared, options):
            print(line, flush=True)


if __name__ == "__main__":
    main()
