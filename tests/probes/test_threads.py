"""Small products run on one thread, and only they do."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from labelclean.labels import given_labels
from labelclean.noise import model as noise
from labelclean.probes.threads import one_thread


def blas_threads() -> set[int]:
    """Threads of numpy's products; faiss and scipy bring libraries of their own."""
    found = [one for one in threadpool_info() if one["user_api"] == "blas" and "numpy" in one["filepath"]]
    return {library["num_threads"] for library in found}


def test_one_thread_works_and_all_come_back_even_after_an_error() -> None:
    with threadpool_limits(2, user_api="blas"):
        with one_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {2}
        with pytest.raises(ZeroDivisionError), one_thread():
            1 / 0  # noqa: B018
        assert blas_threads() == {2}


def test_the_noise_model_is_fitted_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    whole = noise._pass

    def watched(*arguments: object) -> object:
        seen.update(blas_threads())
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(noise, "_pass", watched)
    given = np.repeat([0, 1], 20)
    log_odds = np.eye(2, dtype=np.float32)[given][None]
    with threadpool_limits(2, user_api="blas"):
        noise.fit_noise_model(log_odds, given_labels(given, 2))
    assert seen == {1}
