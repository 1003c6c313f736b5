"""Fixtures shared by the tests: the sample data, a run on it, and one Prefect harness per session."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests.preloaded import Preloaded

if TYPE_CHECKING:
    from playwright.sync_api import Browser

os.environ |= {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # as the command line sets it: two workers that spin take twice the time
}

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def sample_cache(shared_folder: Path, sample_run: Path) -> Path:
    """The feature cache of the run on the sample data."""
    return shared_folder / "sample" / "cache"


@pytest.fixture(scope="session")
def sample_run(shared_folder: Path) -> Path:
    """A published plain run on the sample data, made once for all workers."""
    from labelclean.runs import steps
    from labelclean.storage.parquet import read_config
    from labelclean.storage.run_folders import run_folders

    folder = shared_folder / "sample"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "making"):
        made = run_folders(folder / "runs")
        overrides = [f"storage.runs={folder / 'runs'}", f"storage.cache={folder / 'cache'}"]
        if made:
            return made[0]
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # what the frameworks warn of while they are imported is not ours
            return steps.clean(read_config(ROOT / "config.yaml", overrides))


@pytest.fixture(scope="module")
def preloaded() -> Iterator[Preloaded]:
    """A process that starts the command line quickly."""
    started = Preloaded()
    yield started
    started.close()


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        path = shutil.which("chromium") or "/usr/bin/chromium"
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
