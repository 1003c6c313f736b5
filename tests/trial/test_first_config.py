"""`init` writes a config that loads again, with every key explained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import save_file

from labelclean.config import Config
from labelclean.errors import TableError
from labelclean.runs.ingest import validated
from labelclean.starting.source import Asked
from labelclean.storage.parquet import read_config
from labelclean.trial.first_config import commented_config, ok_class, write_first_config


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    rows = {"sample_id": ["a", "b", "c"], "image_path": ["a.png", "b.png", "c.png"], "given_label": ["ok", "no", "ok"]}
    (tmp_path / "a.png").write_bytes(b"not empty")
    pq.write_table(pa.table(rows | {"group_id": ["1", "1", "2"]}), tmp_path / "labels.parquet")
    return tmp_path / "labels.parquet"


def test_the_written_config_loads_and_names_what_was_seen(labels: Path) -> None:
    out = labels.parent / "config.yaml"
    seen = write_first_config(labels, out, ["run.seed=7", "backbone.weights=w.safetensors"])
    config = read_config(out)
    assert config.data.labels == labels
    assert config.data.class_names == ("no", "ok")  # quoted, or YAML would read a boolean
    assert config.run.seed == 7
    assert config.backbone.weights is not None
    assert not config.backbone.pretrained
    assert "3 rows, 2 classes: no (1), ok (2)" in seen[0]
    assert "1 of the first 3 images are there; 'b.png': the file must exist" in seen[1]
    assert config.run.dataset == labels.parent.name  # `labels.parquet` says little
    assert any("group_id" in sentence for sentence in seen)
    assert seen[0] in out.read_text(encoding="utf-8")


def test_an_existing_config_is_not_replaced_unless_forced(labels: Path) -> None:
    out = labels.parent / "config.yaml"
    out.write_text("mine")
    with pytest.raises(FileExistsError, match="--force"):
        write_first_config(labels, out)
    assert out.read_text() == "mine"
    write_first_config(labels, out, force=True)
    assert out.read_text() != "mine"


def test_images_behind_a_link_out_of_the_root_are_told_before_a_run(labels: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.png").symlink_to(labels.parent / "a.png")
    seen = write_first_config(labels, tmp_path / "config.yaml", asked=Asked(image_root=root))
    assert (
        "0 of the first 3 images are there; 'a.png': the file must lie in data.image_root, but a symbolic link"
        in seen[1]
    )
    told = validated(read_config(tmp_path / "config.yaml"))["sentences"]
    assert any("1 of the first 200 images that are there cannot be used; 'a.png'" in sentence for sentence in told)


def test_one_class_alone_is_taken_and_not_proposed_as_the_ok_class(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sample_id": ["a"], "image_path": ["a"], "given_label": ["ok"]}), tmp_path / "l.parquet")
    write_first_config(tmp_path / "l.parquet", tmp_path / "c.yaml")
    assert read_config(tmp_path / "c.yaml").data.class_names == ("ok",)
    assert "# ok: null" in (tmp_path / "c.yaml").read_text(encoding="utf-8")


def test_every_key_of_the_config_is_written_and_explained() -> None:
    text = commented_config({"data": {"labels": "x"}, "backbone": {"name": "y"}, "run": {"seed": 0}})
    lines = text.splitlines()
    for name, field in Config.model_fields.items():
        assert f"{name}:" in lines, name
        for key in getattr(field.annotation, "model_fields", {}):
            (at, *_) = [i for i, line in enumerate(lines) if line.strip().removeprefix("# ").startswith(f"{key}:")]
            assert lines[at - 1].strip().startswith("#") or key in ("class_distribution", "top2"), (
                f"{name}.{key} is not explained"
            )


def test_unset_keys_stand_as_comments_and_change_nothing() -> None:
    settings = {"data": {"labels": "x"}, "backbone": {"name": "y"}, "run": {"seed": 0}}
    written = yaml.safe_load(commented_config(settings))
    assert "weights" not in written["backbone"]
    assert written["refine"]["method"] == "auto"


def test_a_folder_per_class_is_written_as_parquet_beside_the_config(tmp_path: Path) -> None:
    for name in ("tree/ok/1.png", "tree/dent/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    out = tmp_path / "here" / "config.yaml"
    out.parent.mkdir()
    seen = write_first_config(tmp_path / "tree", out)
    made = tmp_path / "here" / "labels_from_tree.parquet"
    assert f"labels written to {made}" in seen
    assert read_config(out).data.labels == made
    assert read_config(out).data.image_root == tmp_path / "tree"
    assert pq.read_table(made).column("sample_id").to_pylist() == ["dent/1.png", "ok/1.png"]
    out.unlink()
    with pytest.raises(FileExistsError, match=r"labels_from_tree\.parquet.*--force"):
        write_first_config(tmp_path / "tree", out)


def test_a_weights_file_says_which_backbone_it_belongs_to(labels: Path) -> None:
    out, weights = labels.parent / "config.yaml", labels.parent / "w.safetensors"
    said = {"architecture": "resnet18", "pad_type": "same", "mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25"}
    save_file({"x": np.zeros(1, dtype=np.float32)}, weights, metadata=said)
    write_first_config(labels, out, weights=weights)
    backbone = read_config(out).backbone
    assert (backbone.name, backbone.options, backbone.weights) == ("resnet18", {"pad_type": "same"}, weights)
    assert backbone.std == (0.25, 0.25, 0.25)
    assert not backbone.pretrained


NAMES = {
    "lf": "scratch\n(deep)",
    "cr": "scratch\rdeep",
    "ls": "scratch\u2028deep",
    "nel": "scratch\x85deep",
    "bel": "a\x07b",
    "bom": "\ufeffscratch",
    "emoji": "x\U0001f600",
    "yaml": "x\ngates:\n  on_refusal: stop\nrun:\n  seed: 99\n#",
    "long": "x" * 20_000,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_class_name_of_any_signs_comes_back_whole_and_says_nothing_in_yaml(tmp_path: Path, name: str) -> None:
    rows = {"sample_id": ["a", "b"], "image_path": ["a", "b"], "given_label": [name, "ok"]}
    pq.write_table(pa.table(rows), tmp_path / "l.parquet")
    seen = write_first_config(tmp_path / "l.parquet", tmp_path / "c.yaml")
    config = read_config(tmp_path / "c.yaml")
    assert set(config.data.class_names or ()) == {name, "ok"}
    assert (config.run.seed, config.gates.on_refusal) == (0, "fall_back")
    assert all(sentence.isprintable() for sentence in seen)


def test_a_refused_init_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("file,label\na.png,ok\na.png,ok\n")
    with pytest.raises(
        TableError, match=r"l.csv: key sample_id must be unique.*name them in a column annotator_id; .*--several-labels"
    ):
        write_first_config(tmp_path / "l.csv", tmp_path / "c.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["l.csv"]


def test_a_labels_file_that_is_there_is_told_with_a_way_round_it(tmp_path: Path) -> None:
    for name in ("l.csv", "l.txt"):
        (tmp_path / name).write_text("a.png,ok\nb.png,dent\n")
    write_first_config(tmp_path / "l.csv", tmp_path / "c.yaml")
    with pytest.raises(FileExistsError, match=r"labels_from_l.parquet: .* an --out in another folder, or --force"):
        write_first_config(tmp_path / "l.txt", tmp_path / "d.yaml")
    (tmp_path / "new").mkdir()
    write_first_config(tmp_path / "l.txt", tmp_path / "new" / "d.yaml")


def test_columns_are_named_for_parquet_too(tmp_path: Path) -> None:
    rows = {"sample_id": ["a", "b"], "image_path": ["a", "b"], "given_label": ["x", "x"], "second": ["ok", "dent"]}
    pq.write_table(pa.table(rows), tmp_path / "l.parquet")
    write_first_config(tmp_path / "l.parquet", tmp_path / "c.yaml", asked=Asked({"given_label": "second"}))
    config = read_config(tmp_path / "c.yaml")
    assert config.data.class_names == ("dent", "ok")
    made = pq.read_table(config.data.labels)
    assert made.column("given_label_in_file").to_pylist() == ["x", "x"]


def test_names_that_look_alike_or_missing_are_told_and_joined_by_the_key(tmp_path: Path) -> None:
    rows = {"sample_id": list("abcd"), "image_path": list("abcd"), "given_label": ["ok", "OK", "ok", "nan"]}
    pq.write_table(pa.table(rows), tmp_path / "l.parquet")
    seen = " ".join(write_first_config(tmp_path / "l.parquet", tmp_path / "c.yaml"))
    assert "class names look alike: 'OK' (1) and 'ok' (2); to join them: data.spellings: {\"OK\": \"ok\"}" in seen
    assert "class names look like missing values: 'nan' (1)" in seen
    overrides = ["data.spellings={OK: ok}"]
    seen = " ".join(write_first_config(tmp_path / "l.parquet", tmp_path / "c.yaml", overrides, force=True))
    assert "4 rows, 2 classes: nan (1), ok (3)" in seen
    assert "look alike" not in seen
    config = read_config(tmp_path / "c.yaml")
    assert config.data.spellings == {"OK": "ok"}
    assert validated(config)["classes"] == {"nan": 1.0, "ok": 3.0}


def test_a_class_that_sounds_like_ok_is_proposed_as_a_comment(labels: Path) -> None:
    out = labels.parent / "config.yaml"
    seen = write_first_config(labels, out)
    assert "  # ok: ok\n" in out.read_text(encoding="utf-8")
    assert read_config(out).classes.ok is None
    assert any("classes.ok" in sentence for sentence in seen)
    write_first_config(labels, out, ["classes.ok='no'"], force=True)
    assert "  ok: 'no'\n" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["ok", "GOOD", "Pass", "良品", "ＯＫ品"])
def test_names_of_parts_without_a_defect(name: str) -> None:
    assert ok_class(["ng", name]) == name


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("data.several_labels=true", True),
        ("data.several_labels = True", True),
        ("data.several_labels=false", False),
        ("data.labels=true", False),
    ],
)
def test_several_labels_may_be_asked_for_in_any_words_of_yaml(item: str, says: bool) -> None:
    from labelclean.trial.first_config import _says_several

    assert _says_several(item) is says
