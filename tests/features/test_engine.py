"""ONNX Runtime computes what torch does, where it may; else torch does, and says why."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labelclean.config import Config
from labelclean.errors import ConfigError, DeviceError
from labelclean.features import engine as engine_module
from labelclean.features import facts as facts_module
from labelclean.features.backbone import build_backbone
from labelclean.features.decoder_pool import ImageSource
from labelclean.features.engine import (
    EngineError,
    OnnxNetwork,
    choose_engine,
    engine_digest,
    least_cosine,
    made_batch,
    onnx_network,
)
from labelclean.features.extraction import Extractor, extract_missing
from labelclean.features.facts import backbone_facts
from labelclean.features.store import FeatureStore
from labelclean.storage.parquet import read_config

ROOT = Path(__file__).parents[2]
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="the extra onnx is not installed"
)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ONNX Runtime were there."""
    monkeypatch.setattr(engine_module, "_is_installed", lambda name: True)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_is_installed", lambda name: False)


def config_of(cache: Path, *settings: str) -> Config:
    return read_config(
        ROOT / "config.yaml", [f"storage.cache={cache}", "run.device=cpu", "backbone.precision=fp32", *settings]
    )


@pytest.mark.parametrize(
    ("device", "precision", "engine"),
    [(CPU, "fp32", "onnx"), (CPU, "bf16", "torch"), (GPU, "fp32", "torch"), (GPU, "bf16", "torch")],
)
@pytest.mark.usefixtures("installed")
def test_auto_is_onnx_where_a_cpu_computes_in_fp32(device: torch.device, precision: str, engine: str) -> None:
    assert choose_engine("auto", device, precision) == engine
    assert choose_engine("torch", device, precision) == "torch"


@pytest.mark.usefixtures("absent")
def test_auto_is_torch_where_onnx_runtime_is_not_installed_and_asking_for_it_is_refused() -> None:
    assert choose_engine("auto", CPU, "fp32") == "torch"
    with pytest.raises(DeviceError, match=r"labelclean\[onnx\]"):
        choose_engine("onnx", CPU, "fp32")


@pytest.mark.parametrize(("device", "precision"), [(CPU, "bf16"), (GPU, "fp32")])
@pytest.mark.usefixtures("installed")
def test_onnx_on_a_gpu_or_in_half_precision_is_refused(device: torch.device, precision: str) -> None:
    with pytest.raises(ConfigError, match=r"fp32 on a CPU.*backbone\.precision"):
        choose_engine("onnx", device, precision)


def test_torch_keeps_the_digest_of_earlier_versions_and_onnx_has_its_own() -> None:
    assert engine_digest("ab", "torch") == "ab"
    assert engine_digest("ab", "onnx") == hashlib.sha256(b"ab onnx").hexdigest()


def test_the_least_cosine_is_that_of_the_worst_image() -> None:
    first, second = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[6.0, 8.0], [1.0, 1.0]])
    assert least_cosine(first, second) == pytest.approx(0.5**0.5)
    assert least_cosine(first, np.array([[3.0, 4.0], [np.nan, 0.0]])) == -1.0


def test_made_images_are_the_same_everywhere_and_differ() -> None:
    images = made_batch(3, 1, (5, 7))
    assert images.shape == (3, 1, 5, 7)
    assert images[0, 0, 0, 0] == np.float32(0.5488135)  # the first number of MT19937 with seed 0
    assert images[1, 0, 0, 0] == images[1, 0, 1, 1] != images[1, 0, 2, 2]  # blocks of two pixels


@pytest.mark.usefixtures("installed")
def test_a_network_that_will_not_go_runs_on_torch_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> OnnxNetwork:
        raise EngineError("it cannot be exported: no operator Roll")

    monkeypatch.setattr(facts_module, "onnx_network", refuse)
    monkeypatch.setattr(facts_module, "version", lambda name: "1")
    config = config_of(tmp_path)
    facts = backbone_facts(config)
    assert facts.digest == build_backbone(config.backbone, "fp32").digest
    assert (facts.engine, facts.engine_reason) == ("torch", "it cannot be exported: no operator Roll")
    assert backbone_facts(config) == facts  # from the note
    image = ImageSource("a", next((ROOT / "sample_data/images").iterdir()).name)
    store = FeatureStore(tmp_path / "store", facts.num_features)
    extract_missing([image], store, facts, config, ROOT / "sample_data/images", lambda _: None)
    assert [record.message for record in caplog.records] == [
        "backbone 'resnet14t' runs on torch, for ONNX Runtime: it cannot be exported: no operator Roll"
    ]
    with pytest.raises(ConfigError, match=r"as torch does, but it cannot be exported: no operator Roll\. Set"):
        backbone_facts(config_of(tmp_path, "run.engine=onnx"))


@pytest.mark.usefixtures("installed")
def test_features_that_differ_from_torchs_are_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Wrong(OnnxNetwork):
        def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(pixels), 1024)

    monkeypatch.setattr(facts_module, "onnx_network", lambda *_: Wrong(None, 8))
    monkeypatch.setattr(facts_module, "version", lambda name: "1")
    facts = backbone_facts(config_of(tmp_path))
    assert facts.engine == "torch"
    assert "cosine similarity above 0.9999, but have" in facts.engine_reason


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(("depth", "tiles"), [("last", "1"), ("several", "2x1")])
def test_onnx_runtime_agrees_with_torch_and_what_is_stored_is_its_own(tmp_path: Path, depth: str, tiles: str) -> None:
    root, rows, digests = ROOT / "sample_data/images", {}, set()
    paths = sorted(path.name for path in root.iterdir())[:11]  # more than one batch
    for engine in ("onnx", "torch"):
        settings = [f"run.engine={engine}", f"backbone.depth={depth}", f"backbone.tiles={tiles}"]
        config = config_of(tmp_path / "cache", *settings)
        facts = backbone_facts(config)
        assert facts.engine == engine
        store = FeatureStore(tmp_path / engine, facts.num_features)
        extractor = Extractor(store, facts, config, root)
        extractor.extract([ImageSource(path, path) for path in paths], lambda _: None)
        assert isinstance(extractor.network, OnnxNetwork) == (engine == "onnx")
        rows[engine] = store.read(sorted(store.known()))
        digests.add(facts.digest)
    assert least_cosine(rows["onnx"], rows["torch"]) > 0.9999
    assert len(digests) == 2


@needs_onnx
@pytest.mark.slow
def test_a_damaged_export_is_made_anew_and_what_cannot_be_exported_is_told(tmp_path: Path) -> None:
    class Doubled(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return 2 * pixels.mean(dim=(2, 3))

    class Sorted(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean(dim=(2, 3)) if pixels.numpy().sum() else pixels.numpy()  # type: ignore[return-value]

    path = tmp_path / "new" / "doubled.onnx"
    path.parent.mkdir()
    path.write_bytes(b"cut short")
    network = onnx_network(Doubled(), 3, (4, 4), 2, path)
    assert network(torch.ones(2, 3, 4, 4)).tolist() == [[2.0] * 3] * 2
    with pytest.raises(EngineError, match="cannot be exported"):
        onnx_network(Sorted(), 3, (4, 4), 2, tmp_path / "sorted.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["new"]
