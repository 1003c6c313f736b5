"""A killed training goes on to the same bits; two processes train as one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from labelclean.adapt.checkpoint import open_history, read_checkpoint, write_checkpoint, write_weights
from labelclean.adapt.state import EpochRecord, State, TrainingSetup
from labelclean.adapt.train import train
from labelclean.errors import GateError, StorageError
from tests.adapt import toy
from tests.adapt.test_session import config, factory
from tests.adapt.test_train import same_bits

__all__ = ["factory"]

ROOT = Path(__file__).parents[2]


def stored_training(folder: Path, setup: TrainingSetup, *, resume: bool, stop_after: int | None = None) -> State:
    """Train with a checkpoint at every step and epoch, in files; stop hard after some of them."""
    state = toy.state(setup)
    history = open_history(folder, setup.config.window or 1, setup.num_images, setup.config.neighbours, resume=resume)
    if resume:
        read_checkpoint(folder, state)
    pixels = toy.images()
    for count, _ in enumerate(train(state, setup, lambda rows: pixels[rows], history, is_due=toy.every_step()), 1):
        write_checkpoint(folder, state, history)
        if count == stop_after:
            break
    return state


@pytest.mark.parametrize("stop_after", [1, 3, 7])  # in the first epoch, at its end, when partners are in use
def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path, stop_after: int) -> None:
    setup = toy.setup(mode="naive", drop_path=0.1)
    whole, _, _ = toy.trained(setup)
    stored_training(tmp_path, setup, resume=False, stop_after=stop_after)
    assert same_bits(whole, stored_training(tmp_path, setup, resume=True))


DYING = """
import os, signal, sys
from pathlib import Path
from labelclean.adapt.checkpoint import open_history, write_checkpoint
from labelclean.adapt.train import train
from tests.adapt import toy

folder, setup, pixels, steps = Path(sys.argv[1]), toy.setup(mode="naive"), toy.images(), 0
state, history = toy.state(setup), open_history(folder, 2, 24, 3, resume=False)

def advance(count):
    global steps
    steps += 1
    if steps == 9:  # after the checkpoint of epoch 2 and before the next
        os.kill(os.getpid(), signal.SIGKILL)

for record in train(state, setup, lambda rows: pixels[rows], history, is_due=lambda: steps % 4 == 0, advance=advance):
    write_checkpoint(folder, state, history)
"""


@pytest.mark.training
def test_kill_9_costs_at_most_one_interval(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    setup = toy.setup(mode="naive")
    left = toy.state(setup)
    read_checkpoint(tmp_path, left)
    assert 3 * left.epoch + left.step == 8  # of the 9 steps done
    assert same_bits(toy.trained(setup)[0], stored_training(tmp_path, setup, resume=True))


@pytest.mark.training
def test_the_command_killed_at_any_moment_resumes_to_the_same_weights(factory: Path) -> None:
    def command(out: str) -> list[str]:
        path = factory / f"{out}.yaml"
        settings = config(factory, out=factory / out, mode="naive", epochs=30, checkpoint_minutes=0)
        path.write_text(settings.model_dump_json(exclude_none=True))  # JSON is YAML
        return [sys.executable, "-m", "labelclean.cli", "adapt", str(path)]

    def steps_stored() -> int:
        stored = list((factory / "killed").glob(".work-*/checkpoint.pt"))
        record = torch.load(stored[0], weights_only=True) if stored else {"epoch": 0, "step": 0}
        return int(record["epoch"]) * 3 + int(record["step"])

    subprocess.run(command("whole"), cwd=ROOT, env=_environment(), check=True, capture_output=True)
    reached = 0
    for more in (1, 3, 5, 8):  # of 90 steps; the moment within a step is the machine's: in computing, writing, drawing
        again = ["--resume"] if reached else []
        process = subprocess.Popen(command("killed") + again, cwd=ROOT, env=_environment(), stderr=subprocess.DEVNULL)
        while steps_stored() < reached + more and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert steps_stored() >= reached + more  # nothing that was stored is ever lost
        reached = steps_stored()
    subprocess.run([*command("killed"), "--resume"], cwd=ROOT, env=_environment(), check=True)
    whole, killed = (next((factory / out).glob("2*/backbone.safetensors")) for out in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()


def test_a_damaged_checkpoint_and_a_history_of_another_shape_are_refused(tmp_path: Path) -> None:
    setup = toy.setup()
    stored_training(tmp_path, setup, resume=False, stop_after=1)
    with pytest.raises(StorageError, match=r"must have the shape \(9, 24, 3\)"):
        open_history(tmp_path, 9, 24, 3, resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(StorageError, match="the checkpoint must be whole"):
        read_checkpoint(tmp_path, toy.state(setup))


def test_the_weights_are_those_of_the_momentum_backbone(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state, _, _ = toy.trained(toy.setup(epochs=1))
    stored = load_file(write_weights(tmp_path, state))
    assert stored.keys() == toy.Tiny().state_dict().keys()
    assert all(torch.equal(stored[name], value) for name, value in state.momentum.backbone.state_dict().items())


TOGETHER = """
import sys
from pathlib import Path
import torch
from labelclean.adapt.launcher import joined_world, leave_world
from tests.adapt import toy

world = joined_world("cpu")
state, records, history = toy.trained(toy.setup(world, mode="naive"))
if world.rank == 0:
    torch.save({"momentum": state.momentum.state_dict(), "bank": state.bank, "records": [list(r) for r in records]}, Path(sys.argv[1]) / "out.pt")
leave_world(world)
threads = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in threads if "gloo" in name], threads  # one that lives on may abort Python's end
"""


@pytest.mark.training
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    done = _together(TOGETHER, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    alone, records, _ = toy.trained(toy.setup(mode="naive"))
    torch.testing.assert_close(found["bank"], alone.bank, rtol=1e-3, atol=1e-4)
    for name, value in alone.momentum.state_dict().items():
        torch.testing.assert_close(found["momentum"][name], value, rtol=1e-3, atol=1e-4)
    shares = [one.bootstrapped_share for one in records if isinstance(one, EpochRecord)]
    assert [row[4] for row in found["records"]] == pytest.approx(shares, abs=0.1)


REFUSED = """
import atexit, os, signal, sys, time
from pathlib import Path
from labelclean.errors import GateError

def keep_threads():
    names = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]
    (folder / f"threads-{os.environ['RANK']}").write_text(" ".join(names))

folder = Path(sys.argv[1])
atexit.register(keep_threads)  # registered first, called last
from labelclean.adapt.launcher import joined_world
from tests.adapt import toy

signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher stops the second as soon as the first has ended
try:
    toy.trained(toy.setup(joined_world("cpu"), mode="naive", min_feature_spread=0.99))
except GateError as refusal:
    (folder / f"refused-{os.environ['RANK']}").touch()
    while len(list(folder.glob("refused-*"))) < 2:
        time.sleep(0.01)
    sys.exit(refusal.exit_code)
"""


@pytest.mark.training
def test_two_processes_that_refuse_leave_no_thread_that_could_abort_them(tmp_path: Path) -> None:
    done = _together(REFUSED, tmp_path)
    assert f"exitcode  : {GateError.exit_code}" in done.stderr, done.stderr[-3000:]
    threads = [(tmp_path / f"threads-{rank}").read_text() for rank in range(2)]
    assert not [names for names in threads if "gloo" in names], threads


def _together(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in two processes that torch's launcher starts; the folder is its argument."""
    script = folder / "together.py"
    script.write_text(program)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, str(script), str(folder)], cwd=ROOT, env=_environment(), text=True, capture_output=True
    )


def _environment() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
