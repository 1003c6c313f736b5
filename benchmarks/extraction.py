"""Images per second: the bare backbone by each engine, `labelclean run`'s extraction, a DataLoader loop, and Ray nodes.

All routes run in one process, one after the other, in rounds that take turns, so that a busy machine is
unkind to all of them; the best round counts. CPU milliseconds per image (decoders included) are told beside it,
for they hang less on who else is at work.
"""

from __future__ import annotations

import argparse
import copy
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from labelclean.config import Config, parse_config
from labelclean.features.backbone import Backbone, build_backbone, choose_device, choose_precision
from labelclean.features.decoder_pool import ImageSource
from labelclean.features.engine import BATCH_SIZE, choose_engine, made_batch
from labelclean.features.extraction import Extractor, extract_missing
from labelclean.features.facts import BackboneFacts, agreeing_network, backbone_facts
from labelclean.features.forward import extract_features
from labelclean.features.store import FeatureStore

NETWORKS = {
    "mobilenetv2_100": "weights: {shared}/weights/mobilenetv2_100_imagenet1k.safetensors, options: {{pad_type: same}}, input_size: 224",
    "tf_efficientnet_lite2": "weights: {shared}/weights/efficientnet_lite2_imagenet1k.safetensors, input_size: 260",
}
MADE = (640, 480)
TODAY = "bare, torch"


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


def bare(
    backbone: Backbone, device: torch.device, precision: Any, size: int, count: int, layout: torch.memory_format
) -> Callable[[], int]:
    """Return the backbone alone under torch, on one batch of tensors that lies on the device already."""
    module = copy.deepcopy(backbone.module).eval().to(device=device, memory_format=layout)  # type: ignore[call-overload]
    batch = torch.rand(size, len(backbone.mean), *backbone.input_size, device=device)
    batch = batch.contiguous(memory_format=layout)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]

    def run() -> int:
        for _ in range(0, count, size):
            with torch.inference_mode(), torch.autocast(device.type, kind, enabled=precision != "fp32"):
                module(batch).float().cpu()
        return -(-count // size) * size

    return run


def bare_onnx(backbone: Backbone, config: Config, count: int) -> Callable[[], int]:
    """Return the backbone alone under ONNX Runtime, on one batch."""
    images = made_batch(BATCH_SIZE, len(backbone.mean), backbone.input_size)
    network, batch = agreeing_network(backbone, config, images), torch.from_numpy(images)

    def run() -> int:
        for _ in range(0, count, BATCH_SIZE):
            network(batch)
        return -(-count // BATCH_SIZE) * BATCH_SIZE

    return run


def ours(
    sources: list[ImageSource], root: Path, facts: BackboneFacts, config: Config, scratch: Path
) -> Callable[[], int]:
    """Return the extraction of `labelclean run`, into a new store, the building of the backbone left out."""
    kept: list[Extractor] = []

    def run() -> int:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            store = FeatureStore(Path(folder), facts.num_features)
            if config.run.cluster is not None:
                extract_missing(sources, store, facts, config, root, lambda _: None)
                return len(sources)
            extractor = Extractor(store, facts, config, root)
            if kept:
                extractor = replace(kept[0], store=store)
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
        if "Ray" not in name:
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


@dataclass(frozen=True)
class Images:
    """Images to extract."""

    sources: list[ImageSource]
    root: Path


def measured(
    name: str, sets: dict[str, Images], shared: Path, scratch: Path, options: argparse.Namespace
) -> Iterator[str]:
    """Yield the table's lines of one network."""
    text = (
        f"data: {{labels: {scratch / 'labels.parquet'}}}\nstorage: {{cache: {scratch / 'cache'}}}\nrun: {{seed: 0}}\n"
        f"backbone: {{name: {name}, {NETWORKS[name].format(shared=shared)}, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}\n"
    )
    config = parse_config(text, folder=scratch, origin="benchmark", overrides=options.set, cwd=scratch)
    device = choose_device(config.run.device)
    precision = choose_precision(config.backbone.precision, device)
    backbone = build_backbone(config.backbone, precision)
    size = config.backbone.batch_size or (256 if device.type == "cuda" else 32)
    torchs = config.model_copy(update={"run": config.run.model_copy(update={"engine": "torch"})})
    count = options.images
    routes = {
        "bare, torch, channels first": bare(backbone, device, precision, size, count, torch.contiguous_format),
        TODAY: bare(backbone, device, precision, size, count, torch.channels_last),
    }
    engines = {"torch": torchs}
    if choose_engine("auto", device, precision) == "onnx":
        routes["bare, ONNX Runtime"] = bare_onnx(backbone, config, count)
        engines["ONNX Runtime"] = config
    for where, images in sets.items():
        for engine, own in engines.items():
            facts = backbone_facts(own)
            routes[f"run, {engine}, {where}"] = ours(images.sources, images.root, facts, own, scratch)
            if options.ray:
                nodes = own.model_copy(update={"run": own.run.model_copy(update={"cluster": options.ray})})
                routes[f"two Ray nodes, {engine}, {where}"] = ours(images.sources, images.root, facts, nodes, scratch)
        if options.loader:
            loop = loader_loop(backbone, images.root, images.sources, precision, device, size)
            routes[f"DataLoader loop, {where}"] = loop
    routes = {route: run for route, run in routes.items() if options.only in route}
    rates = best_rates(routes, options.rounds)
    for route, rate in rates.items():
        ratio = f"{rate.images_per_s / rates[TODAY].images_per_s:.2f}" if TODAY in rates else "-"
        yield (
            f"| {name} | {torch.get_num_threads()} | {device.type}, {precision} | {route} | {rate.images_per_s:.1f} | "
            f"{ratio} | {rate.cpu_ms:.1f} |"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["mobilenetv2_100"])
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--only", default="", metavar="TEXT", help="only routes with this in their name, such as ONNX")
    parser.add_argument("--loader", action="store_true", help="also measure a DataLoader loop")
    parser.add_argument("--ray", metavar="ADDRESS", help="also measure a Ray cluster: auto or HOST:PORT")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for labelclean run")
    options = parser.parse_args()
    shared = Path(os.environ["LABELCLEAN_REAL_DATA"]).resolve()
    tile = shared / "datasets" / "magnetic_tile" / "images"
    names = sorted(path.name for path in tile.iterdir())[: options.images]
    print(
        "| network | threads | device | route | images/s | of torch's bare | CPU ms/image |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        pictures, scratch = Path(folder, "pictures"), Path(folder, "scratch")
        for place in (pictures, scratch):
            place.mkdir()
        sets = {
            "magnetic tile": Images([ImageSource(name, name) for name in names], tile),
            "made, 640 x 480": Images(made_images(pictures, options.images), pictures),
        }
        for name in options.networks:
            for threads in options.threads:
                torch.set_num_threads(threads)
                for line in measured(name, sets, shared, scratch, options):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
