"""The config: paths start at its file, unknown keys are refused, all faults are told, no secret leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelclean.config import Config, config_record, parse_config, recorded_config
from labelclean.errors import ConfigError

LEAST = "data: {labels: in/labels.parquet}\nbackbone: {name: resnet18}\nrun: {seed: 0}\n"


def parsed(text: str = LEAST, *overrides: str) -> Config:
    return parse_config(text, folder=Path("/plant"), origin="config.yaml", overrides=overrides, cwd=Path("/here"))


def test_relative_paths_start_at_the_config_file_and_overrides_at_the_working_folder() -> None:
    config = parsed(LEAST, "storage.cache=c")
    assert config.data.labels == Path("/plant/in/labels.parquet")
    assert config.storage.runs == Path("/plant/runs")
    assert config.storage.cache == Path("/here/c")


def test_overrides_take_yaml_values() -> None:
    config = parsed(LEAST, "backbone.options={pad_type: same}", "backbone.mean=[0.5]", "gates.top2.max_noise=0.3")
    assert config.backbone.options == {"pad_type": "same"}
    assert config.backbone.mean == (0.5,)
    assert config.gates.top2.max_noise == 0.3


def test_all_faults_are_told_at_once_with_the_keys_that_exist() -> None:
    with pytest.raises(ConfigError) as told:
        parsed("data: {labels: a, lables: b}\nbackbone: {name: x, input_size: 8}\nrun: {}\nrefine: {method: magic}\n")
    message = str(told.value)
    assert message.startswith("config.yaml: 4 settings cannot be used")
    assert (
        "data.lables: this key is not known; known here: box_margin, class_names, image_root, label_of, labels"
        in message
    )
    assert "run.seed: this key is required but missing" in message
    assert "backbone.input_size: must be at least 16 pixels" in message
    assert "refine.method: input should be" in message


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("{", "must be plain YAML"),
        ("!!python/object/apply:os.system ['true']", "must be plain YAML"),
        ("- a list", "must hold a mapping of sections, but holds list"),
        (LEAST + "decode: {window: fixed}", "window 'fixed' needs low < high"),
        (LEAST + "decode: {percentiles: [9, 1]}", "percentiles must rise"),
        (LEAST.replace("parquet}", "parquet, spellings: {a: b, b: c}}"), "not blank and not respelled themselves"),
        (LEAST.replace("labels.parquet}", "labels.parquet, class_names: [a, a]}"), "at least one name, none twice"),
    ],
)
def test_what_cannot_be_is_refused(text: str, fragment: str) -> None:
    with pytest.raises(ConfigError, match=fragment):
        parsed(text)


@pytest.mark.parametrize("item", ["novalue", "=3", "data.labels.x=3"])
def test_a_broken_override_is_refused(item: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parsed(LEAST, item)


def test_a_section_without_keys_means_its_defaults() -> None:
    assert parsed(LEAST + "ledger:\nreview:\n").review.audit_samples == 30


def test_the_configuration_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parsed().run.seed = 1


def test_a_password_is_refused_and_never_recorded() -> None:
    with pytest.raises(ConfigError, match="LABELCLEAN_LEDGER_URL") as told:
        parsed(LEAST, "ledger.url=postgresql://me:geheim@db/labels")
    assert "geheim" not in str(told.value)
    assert (
        config_record(parsed(LEAST, "ledger.url=postgresql://me@db/labels"))["ledger"]["url"]
        == "postgresql://me@db/labels"
    )


def test_the_budget_is_samples_or_minutes_and_the_lower_one_holds() -> None:
    assert parsed(LEAST).review.places is None
    assert parsed(LEAST + "review: {budget: 50}").review.places == 50
    assert parsed(LEAST + "review: {minutes: 45, seconds_per_sample: 20}").review.places == 135
    assert parsed(LEAST + "review: {minutes: 45, seconds_per_sample: 20, budget: 50}").review.places == 50
    assert parsed(LEAST + "review: {minutes: 0.1}").review.places == 1


@pytest.mark.parametrize(("text", "override"), [("review: {audit_share: 0.1}", ""), ("", "review.audit_share=0.1")])
def test_the_share_that_the_audit_once_had_is_refused_with_what_to_write(text: str, override: str) -> None:
    with pytest.raises(ConfigError) as told:
        parsed(LEAST + text, *([override] if override else []))
    assert "review.audit_share: this key is now review.audit_samples" in str(told.value)
    assert "write audit_samples: 30, or 0 for no audit" in str(told.value)


def test_a_negative_audit_is_refused() -> None:
    assert parsed(LEAST, "review.audit_samples=0").review.audit_samples == 0
    with pytest.raises(ConfigError, match=r"review\.audit_samples: input should be greater than or equal to 0"):
        parsed(LEAST, "review.audit_samples=-1")


def test_the_configuration_in_an_old_runs_manifest_can_still_be_read() -> None:
    record = config_record(parsed())
    record["review"] = {"budget": 40, "audit_share": 0.05}
    assert recorded_config(record).review.budget == 40
    with pytest.raises(ValueError, match="lables"):
        recorded_config(record | {"lables": 1})


def test_names_that_are_respelled_are_no_classes_any_more() -> None:
    text = LEAST.replace("parquet}", "parquet, class_names: [OK, dent, ok], spellings: {OK: ok}}")
    assert parse_config(text, folder=Path("/plant"), origin="config.yaml").data.class_names == ("dent", "ok")
