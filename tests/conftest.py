"""Fixtures shared by the tests: the sample data, a run on it, and one Prefect harness per session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ |= {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
}

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def sample_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One feature cache for all runs on the sample data."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory: pytest.TempPathFactory, sample_cache: Path) -> Path:
    """A published plain run on the sample data."""
    from labelclean import steps
    from labelclean.storage import read_config

    runs = tmp_path_factory.mktemp("sample") / "runs"
    return steps.clean(read_config(ROOT / "config.yaml", [f"storage.runs={runs}", f"storage.cache={sample_cache}"]))


@pytest.fixture(scope="session")
def prefect_harness() -> Iterator[None]:
    """An embedded Prefect server with its own database."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data sets."""
    folder = os.environ.get("LABELCLEAN_REAL_DATA")
    if not folder:
        pytest.skip("LABELCLEAN_REAL_DATA is not set")
    return Path(folder)
