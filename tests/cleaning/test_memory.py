"""Memory is reckoned before anything starts, and changes no result."""

from __future__ import annotations

import pytest

from labelclean.cleaning.memory import Size, check_memory, cleaning_need, earlier_need, neighbours_need, streamed_need
from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError

DEFAULTS = CleaningConfig()
MILLION = Size(10**6, 768, 20)


def test_a_million_samples_with_neighbours_stay_within_the_promise() -> None:
    assert neighbours_need(MILLION, 64) > 10**6 * 2 * (2 * 64 + 8)
    assert cleaning_need(MILLION, DEFAULTS) == streamed_need(MILLION, DEFAULTS, 50_000)
    without = CleaningConfig.model_validate({"neighbours": {"method": "none"}})
    assert cleaning_need(MILLION, without) < 2 * 2**30 < cleaning_need(MILLION, DEFAULTS)


def test_beyond_those_that_choose_the_need_grows_by_bytes_not_by_features() -> None:
    without = CleaningConfig.model_validate({"neighbours": {"method": "none"}})
    small, large = (cleaning_need(Size(size, 768, 20), without) for size in (10**6, 10**7))
    assert 0 < (large - small) / 9e6 < 100 < 768 * 4


def test_too_little_is_refused_with_what_can_be_lowered() -> None:
    need = check_memory(MILLION, DEFAULTS, None, "max_memory")
    assert check_memory(MILLION, DEFAULTS, need, "max_memory") == need
    said = (
        r"max_memory must be at least [\d,]+ MiB for 1,000,000 samples .*teacher.choice_rows \(50,000\).*neighbours out"
    )
    with pytest.raises(ConfigError, match=said):
        check_memory(MILLION, DEFAULTS, need - 1, "max_memory")


def test_where_other_things_take_more_than_cleaning_no_setting_of_it_is_blamed() -> None:
    own = CleaningConfig.model_validate({"teacher": {"pred_probs": "probs.parquet"}})
    size, small = Size(10**6, 256, 200), Size(100, 8, 2)
    before = earlier_need(size, own, has_reference=False)
    with pytest.raises(ConfigError, match=r"Allow more: teacher\.pred_probs .* take that much\. Nothing") as told:
        check_memory(size, own, 2**32, "run.max_memory", before=before)
    assert "choice_rows" not in str(told.value)
    before = earlier_need(small, DEFAULTS, has_reference=False)
    with pytest.raises(ConfigError, match="Allow more: decoding and extracting images takes that much"):
        check_memory(small, DEFAULTS, 2**30, "run.max_memory", before=before)


def test_what_something_else_takes_counts_where_it_is_more() -> None:
    assert check_memory(Size(100, 8, 2), DEFAULTS, None, "run.max_memory", before=2**40) == 2**40


def test_the_users_own_probabilities_count_while_they_are_read_and_held() -> None:
    """A million rows of 20: as Python's numbers more than 32 bytes each while they are read, then 4 as float32."""
    own = CleaningConfig.model_validate({"teacher": {"pred_probs": "probs.parquet"}})
    assert earlier_need(MILLION, own, has_reference=False) > 32 * 20 * 10**6
    assert cleaning_need(MILLION, own) - cleaning_need(MILLION, DEFAULTS) == 4 * 20 * 10**6
    small = Size(10_000, 768, 20)
    assert cleaning_need(small, own) - cleaning_need(small, DEFAULTS) == 4 * 20 * 10_000


def test_ids_that_a_reference_knows_count_where_they_are_more_than_the_images_take() -> None:
    few, many = (earlier_need(Size(size, 768, 20), DEFAULTS, has_reference=True) for size in (10**5, 10**8))
    assert few == earlier_need(MILLION, DEFAULTS, has_reference=False)
    assert many > 10**8 * 100  # a text of 50 characters and its place in a set
