"""A real Ray cluster of two nodes on this machine: the same bits as one process, also when a node ends in the middle."""

from __future__ import annotations

import builtins
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from threadpoolctl import threadpool_limits

from labelclean.cleaning.streaming import clean_shards
from labelclean.cluster import Cluster, open_cluster
from labelclean.config import Config
from labelclean.errors import ConfigError, DeviceError
from labelclean.features import extraction
from labelclean.features.decoder_pool import ImageSource
from labelclean.features.extraction import extract_missing, hash_images
from labelclean.features.facts import backbone_facts
from labelclean.features.store import FeatureStore
from labelclean.storage.parquet import read_config
from tests.cleaning.test_one_path import ALL_CHOOSE, FEW_CHOOSE, planted, real_rows

ROOT = Path(__file__).parent.parent
TEACHER = {"landmarks": 50, "lambdas": [0.1, 1.0], "choice_rows": 400}
CONFIG = {"teacher": TEACHER, "neighbours": {"method": "none"}}
START = "from ray.scripts.scripts import main; main()"


@dataclass
class Nodes:
    """Two nodes of one CPU each."""

    address: str
    processes: list[psutil.Popen]

    def start(self, command: list[str], log: Path) -> None:
        """Start one more; Ray gives a node 30 s to start, which a busy machine may exceed."""
        deadline, number = time.monotonic() + 120, len(self.processes)
        while time.monotonic() < deadline:
            with log.open("ab") as file:
                self.processes.append(psutil.Popen(command, stdout=file, stderr=file, start_new_session=True))
            while time.monotonic() < deadline and self.processes[number].poll() is None:
                time.sleep(0.5)
                if "--block" in log.read_text(errors="replace"):  # it says so once it runs
                    return
            self.end(number)
            self.processes.pop().wait()
        pytest.fail(f"node {number} did not start within 120 s: {log.read_text(errors='replace')[-800:]}")

    def end(self, number: int) -> None:
        """End all processes of a node as a pulled plug does; psutil sees when a number is another process' by now."""
        parent = self.processes[number]
        with suppress(psutil.NoSuchProcess):
            for process in [*parent.children(recursive=True), parent]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    folder = Path(tempfile.mkdtemp(prefix="lc"))  # sockets lie in it, and their paths must be short
    (folder / "token").write_text(secrets.token_hex(32))
    (folder / "token").chmod(0o600)
    # Ray makes its workers nicer than everybody else: beside a busy neighbour they would stand still
    own = {
        "RAY_worker_niceness": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    before = {key: os.environ.get(key) for key in own}
    os.environ |= own
    pytest.importorskip("ray")  # reads them when it is imported
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    common = ["--block", "--num-cpus=1", "--object-store-memory=200000000", "--disable-usage-stats"]
    head = ["--head", "--node-ip-address=127.0.0.1", f"--port={address.partition(':')[2]}", "--include-dashboard=false"]
    started = Nodes(address, [])
    try:
        for place in ([*head, f"--temp-dir={folder / 'r'}"], [f"--address={address}"]):
            command = [sys.executable, "-c", START, "start", *place, *common]
            started.start(command, folder / f"log-{len(started.processes)}")
        yield started
    finally:
        for number in range(len(started.processes)):
            started.end(number)
            started.processes[number].wait()
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)
        shutil.rmtree(folder, ignore_errors=True)


def write_shards(folder: Path, sizes: tuple[int, ...]) -> Path:
    """Shards of four classes in 12 dimensions, a tenth of the labels wrong."""
    random = np.random.default_rng(3)
    centres = random.standard_normal((4, 12)) * 2
    folder.mkdir()
    for number, size in enumerate(sizes):
        true = random.integers(0, 4, size)
        rows = (centres[true] + random.standard_normal((size, 12))).astype(np.float16)
        given = np.where(random.random(size) < 0.1, (true + 1) % 4, true)
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 12)
        ids = [f"s{number}-{row}" for row in range(size)]
        names = np.array(["dent", "ok", "scratch", "stain"])[given]
        table = pa.table({"sample_id": ids, "feature": column, "given_label": names})
        pq.write_table(table, folder / f"shard-{number}.parquet")
    return folder


def refined(out: Path) -> list[pa.Table]:
    return [pq.read_table(path) for path in sorted((out / "refined_labels").glob("*.parquet"))]


def sample_sources(count: int) -> list[ImageSource]:
    labels = pq.read_table(ROOT / "sample_data" / "labels.parquet").slice(0, count)
    return [
        ImageSource(*row) for row in zip(labels["sample_id"].to_pylist(), labels["image_path"].to_pylist(), strict=True)
    ]


def extracted(config: Config, folder: Path, sources: list[ImageSource]) -> tuple[FeatureStore, list[str]]:
    """A store with the features of some images, and their content hashes."""
    root = ROOT / "sample_data"
    notes = config.storage.model_copy(update={"cache": folder / "facts"})
    facts = backbone_facts(config.model_copy(update={"storage": notes}))
    hashed = hash_images(sources, config, root, lambda _: None)
    store = FeatureStore(folder / "store", facts.num_features)
    first = {key: sample for sample, key in reversed(hashed.content_hashes.items())}
    wanted = [source for source in sources if source.sample_id in set(first.values())]
    told: list[int] = []
    extract_missing(wanted, store, facts, config, root, told.append)
    assert sum(told) == len(wanted)
    return store, list(first)


@pytest.mark.ray
@pytest.mark.filterwarnings("default")
def test_two_nodes_extract_the_features_of_one_process(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "SHARD_IMAGES", 40)
    config = read_config(ROOT / "config.yaml", ["run.device=cpu"])
    one, hashes = extracted(config, tmp_path / "one", sample_sources(150))
    on_nodes = config.model_copy(update={"run": config.run.model_copy(update={"cluster": nodes.address})})
    two, _ = extracted(on_nodes, tmp_path / "two", sample_sources(150))
    assert np.array_equal(two.read(hashes), one.read(hashes))
    stored = [
        key
        for part in (tmp_path / "two" / "store").glob("*.parquet")
        for key in pq.read_table(part)["content_hash"].to_pylist()
    ]
    assert Counter(stored) == Counter(hashes)


@pytest.mark.ray
@pytest.mark.filterwarnings("default")
def test_a_fault_of_the_work_is_raised_and_not_tried_again(nodes: Nodes) -> None:
    with open_cluster(nodes.address) as cluster:
        with pytest.raises(ZeroDivisionError):
            list(cluster.each(lambda number: 1 // number, [1, 0, 2]))
        assert list(cluster.each(lambda number: -number, range(5))) == [0, -1, -2, -3, -4]
        assert cluster.num_again == 0


@pytest.mark.ray
@pytest.mark.filterwarnings("default")
def test_work_that_kills_every_actor_ends_with_a_sentence(nodes: Nodes) -> None:
    def dies(number: int) -> int:
        return os._exit(1) if number == 1 else number

    with open_cluster(nodes.address) as cluster, pytest.raises(DeviceError, match=r"3 died on shard 1"):
        list(cluster.each(dies, range(3)))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads here as an actor of one CPU has: BLAS adds in another order with more, and the last bits differ."""
    import faiss  # noqa: F401  (limits reach the libraries that are loaded)
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.mark.ray
@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("default")
def test_neighbours_found_on_two_nodes_are_those_of_one_process(nodes: Nodes, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", (300, 1, 250))
    config = {"teacher": TEACHER, "neighbours": {"method": "index"}}
    alone = clean_shards(features=shards, out=tmp_path / "one", seed=1, config=config)
    found = clean_shards(features=shards, out=tmp_path / "two", seed=1, config=config, cluster=nodes.address)
    for ours, theirs in zip(refined(found.folder), refined(alone.folder), strict=True):
        assert ours.equals(theirs)


@pytest.mark.ray
@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("num_shards", [7, 40])
def test_samples_that_all_choose_are_the_same_on_two_nodes_and_in_memory(
    nodes: Nodes, tmp_path: Path, num_shards: int
) -> None:
    samples, _ = planted(600)
    found = samples.on_disk(tmp_path, num_shards, ALL_CHOOSE, nodes.address)
    found.check_equal(samples.in_memory(ALL_CHOOSE), 1e-5)


@pytest.mark.ray
@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("default")
def test_blocks_are_the_same_on_two_nodes_and_in_memory(nodes: Nodes, tmp_path: Path) -> None:
    samples, _ = planted(900, seed=1)
    samples.on_disk(tmp_path, 3, FEW_CHOOSE, nodes.address).check_equal(samples.in_memory(FEW_CHOOSE), 1e-3)


@pytest.mark.real
@pytest.mark.ray
@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("default")
def test_real_samples_are_the_same_on_two_nodes_and_in_memory(nodes: Nodes, real_data: Path, tmp_path: Path) -> None:
    samples = real_rows(real_data)
    samples.on_disk(tmp_path, 40, {}, nodes.address).check_equal(samples.in_memory({}), 1e-5)


@pytest.mark.ray
@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("default")
def test_a_node_that_ends_in_the_middle_loses_no_shard_and_doubles_none(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(tmp_path / "shards", (900, 1, 700, 800, 900, 650, 700, 800))
    alone = clean_shards(features=shards, out=tmp_path / "one", seed=1, config=CONFIG)
    answers: list[int] = []
    clusters: list[Cluster] = []
    each = Cluster.each

    def interrupted(self: Cluster, work: Callable[[Any], Any], units: Iterable[Any]) -> Iterator[Any]:
        clusters.append(self)
        for answer in each(self, work, units):
            answers.append(1)
            if len(answers) == 3:  # in the first pass, while both nodes work
                nodes.end(1)
            yield answer

    monkeypatch.setattr(Cluster, "each", interrupted)
    found = clean_shards(features=shards, out=tmp_path / "two", seed=1, config=CONFIG, cluster=nodes.address)
    assert clusters[-1].num_lost >= 1
    assert len(answers) == 3 * 8  # sums, student, outputs
    assert found.noise_matrix.tobytes() == alone.noise_matrix.tobytes()
    for ours, theirs in zip(refined(found.folder), refined(alone.folder), strict=True):
        assert ours.equals(theirs)
    ids = [key for table in refined(found.folder) for key in table["sample_id"].to_pylist()]
    assert len(ids) == len(set(ids)) == 900 + 1 + 700 + 800 + 900 + 650 + 700 + 800


def test_a_missing_package_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_ray(name: str, *rest: Any, **named: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(ConfigError, match=r"Install labelclean\[cluster\] on all machines"), open_cluster("auto"):
        pass


@pytest.mark.ray
@pytest.mark.filterwarnings("default")
def test_a_cluster_that_is_not_there_is_a_device_error(nodes: Nodes) -> None:
    with pytest.raises(DeviceError, match=r"'127.0.0.1:1' cannot be reached"), open_cluster("127.0.0.1:1"):
        pass
