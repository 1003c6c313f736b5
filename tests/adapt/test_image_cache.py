"""Decoded once, gone on after a kill, refused when it is not whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelclean.adapt.image_cache import ImageCache, RootImages, cache_folder, fill_cache, open_cache, thumbnails
from labelclean.adapt.image_set import gather_images
from labelclean.adapt.session import cache_size
from labelclean.errors import StorageError
from labelclean.features.decoder_pool import ImageSource
from tests.adapt.test_session import config, factory

__all__ = ["factory"]


def test_a_killed_decoding_goes_on_where_it_was(factory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelclean.adapt.image_cache.FLUSH_S", 0.0)
    settings = config(factory)
    whole, _ = gather_images(settings, cache_size(settings))
    contents = [f"content {number}" for number in range(24)]
    read: list[str] = []

    def sources(wanted: set[str]) -> list[ImageSource]:
        return [ImageSource(f"{n:02}.png", f"{n:02}.png") for n in range(24) if f"{n:02}.png" in wanted]

    parts = [RootImages(factory / "labelled", sources, {f"{n:02}.png": contents[n] for n in range(24)})]
    folder = cache_folder(contents, (40, 40), 16, settings)

    def dying(count: int) -> None:
        read.extend("x" * count)
        if len(read) == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_cache(folder, parts, contents, (40, 40), settings, dying)
    with pytest.raises(StorageError, match=r"was storage\.cache emptied"):
        open_cache(folder)
    counts: list[int] = []
    rejects = fill_cache(folder, parts, contents, (40, 40), settings, counts.append)
    assert counts[0] == 9  # read before the kill and noted
    assert sum(counts) == 24
    assert rejects == []  # the broken one came before the kill, and its place is remembered
    cache = open_cache(folder)
    assert cache.kept.tolist() == [n for n in range(24) if n != 5]
    once = open_cache(whole.cache)
    without_twin = np.array([n for n in range(23) if n != 3])
    np.testing.assert_array_equal(cache.pixels(without_twin), once.pixels(np.arange(22)))


def test_thumbnails_are_means_of_cells() -> None:
    pixels = np.arange(2 * 32 * 32, dtype=np.uint16).reshape(2, 1, 32, 32)
    found = thumbnails(ImageCache(Path(), pixels, np.arange(2)))
    expected = pixels.reshape(2, 16, 2, 16, 2).mean(axis=(2, 4)).reshape(2, 256) / 65535
    np.testing.assert_allclose(found, expected, rtol=1e-5)
