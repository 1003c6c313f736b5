"""The sample data is what its README says, and its script still makes it."""

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "sample_data"
KEPT_FILES = {"README.md", "backbone.safetensors"} | {
    f"{name}.py" for name in ("generate", "inspectors", "make_backbone", "parts", "render", "several", "sheets")
}


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("sample_data.generate")


@pytest.fixture
def labels() -> pd.DataFrame:
    return pd.read_parquet(SAMPLE / "labels.parquet")


@pytest.fixture
def truth() -> pd.DataFrame:
    return pd.read_parquet(SAMPLE / "truth.parquet")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(np.float64)


def is_readable(path: Path) -> bool:
    try:
        pixels(path)
    except OSError:
        return False
    return True


def best_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Highest correlation over all shifts."""
    spectra = [np.fft.rfft2((image - image.mean()) / image.std()) for image in (first, second)]
    return float(np.fft.irfft2(spectra[0] * spectra[1].conj(), s=first.shape).max() / first.size)


def test_the_committed_tables_are_those_the_script_writes(generator: Any, tmp_path: Path) -> None:
    generator.write_tables(generator.planned_shots(generator.SEED), tmp_path)
    for name in ("labels.parquet", "truth.parquet"):
        assert pq.read_table(tmp_path / name).equals(pq.read_table(SAMPLE / name))


@pytest.mark.slow
def test_the_committed_images_are_those_the_script_draws(generator: Any, tmp_path: Path) -> None:
    shots = [shot for shot in generator.planned_shots(generator.SEED) if not shot.is_broken]
    # Another processor may round a grey value the other way; JPEG spreads that over its block.
    tolerance = {"jpg": 8, "png": 1, "bmp": 1, "png12": 1, "png16": 2, "tiff16": 2}
    for file_format, allowed in tolerance.items():
        for shot in [shot for shot in shots if shot.file_format == file_format][:4]:
            path = tmp_path / Path(shot.image_path).name
            generator.write_image(shot, generator.grey_image(shot, generator.SEED), path)
            assert np.abs(pixels(path) - pixels(SAMPLE / shot.image_path)).max() <= allowed


@pytest.mark.slow
@pytest.mark.long
def test_a_new_sample_has_the_same_files_and_another_seed_other_parts(generator: Any, tmp_path: Path) -> None:
    generator.generate(tmp_path, generator.SEED)
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    committed = {path.relative_to(SAMPLE).as_posix() for path in SAMPLE.rglob("*") if path.is_file()}
    assert made == {name for name in committed if "__pycache__" not in name} - KEPT_FILES
    other = generator.planned_shots(generator.SEED + 1)[0]
    assert not np.array_equal(
        generator.grey_image(other, generator.SEED), generator.grey_image(other, generator.SEED + 1)
    )


def test_labels_have_the_promised_columns_one_row_per_sample_and_no_annotator() -> None:
    table = pq.read_table(SAMPLE / "labels.parquet")
    text = ["sample_id", "image_path", "given_label", "group_id", "line", "shift"]
    assert {name: table.schema.field(name).type for name in text} == dict.fromkeys(text, pa.string())
    assert table.schema.field("captured_at").type == pa.timestamp("us", tz="UTC")
    assert set(table.column_names) == {*text, "captured_at"}
    assert table.num_rows == len(table["sample_id"].unique()) == 700
    assert not any(column.null_count for column in table.columns)


def test_file_names_and_rows_do_not_tell_the_class(labels: pd.DataFrame) -> None:
    assert labels["image_path"].str.fullmatch(r"images/img_\d{6}\.(png|jpg|bmp|tif)").all()
    assert not labels["sample_id"].is_monotonic_increasing


def test_truth_stands_beside_labels_and_names_each_error(labels: pd.DataFrame, truth: pd.DataFrame) -> None:
    assert list(truth["sample_id"]) == list(labels["sample_id"])
    is_wrong = truth["true_label"] != labels["given_label"]
    assert is_wrong.equals(truth["error_kind"].notna())
    assert 0.08 <= is_wrong.mean() <= 0.11
    assert set(truth["error_kind"].dropna()) == {"uniform", "confusion", "tired"}


def test_classes_are_unbalanced_as_in_a_factory(truth: pd.DataFrame) -> None:
    counts = truth["true_label"].value_counts()
    assert set(counts.index) == {"ok", "scratch", "dent", "pore", "stain", "crack"}
    assert 0.45 <= counts["ok"] / 700 <= 0.55
    assert 18 <= counts["crack"] <= 26
    assert counts.idxmin() == "crack"


def test_the_night_shift_of_one_line_errs_far_more_often(labels: pd.DataFrame, truth: pd.DataFrame) -> None:
    is_wrong = truth["true_label"] != labels["given_label"]
    is_tired = (labels["line"] == "L2") & (labels["shift"] == "night")
    assert is_wrong[is_tired].mean() > 4 * is_wrong[~is_tired].mean()


def test_formats_and_bit_depths_are_those_promised(generator: Any) -> None:
    shots = [shot for shot in generator.planned_shots(generator.SEED) if not shot.is_broken]
    assert Counter(shot.file_format for shot in shots) == Counter(generator.FORMATS) - Counter({"png": 1})
    for file_format, container, low, high in (
        ("png", "PNG", 60, 255),
        ("jpg", "JPEG", 60, 255),
        ("bmp", "BMP", 60, 255),
        ("png12", "PNG", 1000, 4095),
        ("png16", "PNG", 16_000, 65_535),
        ("tiff16", "TIFF", 16_000, 65_535),
    ):
        for shot in [shot for shot in shots if shot.file_format == file_format][:10]:
            with Image.open(SAMPLE / shot.image_path) as image:
                assert (image.format, image.mode) == (container, "L" if high == 255 else "I;16")
                assert low <= np.asarray(image).max() <= high


@pytest.mark.slow
def test_every_row_has_its_image_and_exactly_one_is_broken(generator: Any, labels: pd.DataFrame) -> None:
    paths = [SAMPLE / name for name in labels["image_path"]]
    assert set(paths) == set((SAMPLE / "images").iterdir())
    broken = [shot.image_path for shot in generator.planned_shots(generator.SEED) if shot.is_broken]
    assert [path.relative_to(SAMPLE).as_posix() for path in paths if not is_readable(path)] == broken
    assert len(broken) == 1


def test_some_parts_were_photographed_again_under_the_same_or_another_serial_number(generator: Any) -> None:
    shots = generator.planned_shots(generator.SEED)
    first = {shot.part_index: shot for shot in shots if not shot.shot_index}
    pairs = [(first[shot.part_index], shot) for shot in shots if shot.shot_index]
    assert len(pairs) == generator.RESHOTS
    assert sum(one.group_id != two.group_id for one, two in pairs) == generator.RENAMED_RESHOTS
    assert sum(one.given_label != two.given_label for one, two in pairs) >= generator.CONFLICTING_RESHOTS


def test_photos_of_one_part_look_alike_and_photos_of_two_parts_less_so(generator: Any) -> None:
    shots = generator.planned_shots(generator.SEED)
    again = [shot for shot in shots if shot.shot_index]
    same_part, two_parts = [], []
    for shot in again:
        same = next(one for one in shots if one.part_index == shot.part_index and not one.shot_index)
        other = next(one for one in shots if one.part_index != shot.part_index and one.line == shot.line)
        image = generator.grey_image(shot, generator.SEED)
        same_part.append(best_correlation(image, generator.grey_image(same, generator.SEED)))
        two_parts.append(best_correlation(image, generator.grey_image(other, generator.SEED)))
    assert min(same_part) > 0.55
    assert np.mean(same_part) > np.mean(two_parts) + 0.2


def test_sample_data_stays_small() -> None:
    files = [path for path in SAMPLE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 12e6
    assert (SAMPLE / "backbone.safetensors").stat().st_size < 4e6


@pytest.mark.slow
def test_the_backbone_file_fits_its_network_and_gives_finite_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    made = importlib.import_module("sample_data.make_backbone")
    timm, torch = importlib.import_module("timm"), importlib.import_module("torch")
    network = timm.create_model(made.NAME, num_classes=0, **made.OPTIONS).eval()
    network.load_state_dict(importlib.import_module("safetensors.torch").load_file(SAMPLE / "backbone.safetensors"))
    with torch.inference_mode():
        features = network(torch.zeros(2, 3, made.INPUT_SIZE_PX, made.INPUT_SIZE_PX))
    assert features.shape == (2, 1024)
    assert torch.isfinite(features).all()
