"""The only module that knows Ray: the same shard functions, on many machines.

Plain Ray actors, not Ray Data. A shard here is a unit of work with a file or a sum of its own, not a stream of
rows; what is wanted is that a lost machine costs exactly the shards it was working on. Ray Data binds a task to
its actor, and an actor whose machine is gone waits for a free place that a full cluster does not have: it hangs.
So the driver keeps the list of shards, hands each to whichever actor is idle, and takes back those of a dead one.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from labelclean.errors import ConfigError, DeviceError

LOG = logging.getLogger("labelclean")
MOST_DEATHS = 3
START_TIMEOUT_S = 300.0
CONNECT_TIMEOUT_S = 10.0

Unit = TypeVar("Unit")
Result = TypeVar("Result")


@dataclass
class Cluster:
    """A Ray cluster with one actor per GPU, or per CPU where there are none; each keeps its backbone between shards.

    Attributes:
        ray: The module, connected.
        actor: What is started on each place.
        places: How many actors to keep.
        idle: Actors that wait for a unit.
        starting: Actors that start, by the answer that will tell.
        num_actors: Those that live or start.
        num_lost: Actors that died so far.
        num_again: Shards that were handed out a second time.
    """

    ray: Any
    actor: Any
    places: int
    idle: list[Any] = field(default_factory=list)
    starting: dict[Any, Any] = field(default_factory=dict)
    num_actors: int = 0
    num_lost: int = 0
    num_again: int = 0

    def each(self, work: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[Result]:
        """Yield the result of each unit in order, worked on by all actors; a unit of a lost actor goes to another.

        Args:
            work: Takes a unit; goes to every actor once, with all that it holds.
            units: What to work on. A unit may be worked on twice, when an actor dies just before it answers.

        Yields:
            Results, in the order of the units; whatever ``work`` raises is raised here.

        Raises:
            DeviceError: If actors die on one unit again and again, or none can start.
        """
        return _Pass(self, self.ray.put(work)).run(units)


@contextmanager
def open_cluster(address: str) -> Iterator[Cluster]:
    """Connect to a Ray cluster for as long as the block runs.

    Args:
        address: `auto` is the cluster that runs on this machine, or one started here for the block where none
            runs; else `HOST:PORT`.

    Yields:
        The cluster.

    Raises:
        ConfigError: If Ray is not installed.
        DeviceError: If the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "run.cluster needs the package ray, which is not installed. Install labelclean[cluster] on all machines of "
            "the cluster, or leave --cluster out."
        ) from None
    on_sigterm = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    _connect(ray, address)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts its own there
    try:
        resources: dict[str, float] = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        places = gpus or max(cpus, 1)
        LOG.info("cluster %s: %d machines, %d CPUs, %d GPUs", address, len(_living(ray)), cpus, gpus)
        actor = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=0, max_task_retries=0)(_Actor)
        yield Cluster(ray, actor, places)
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Join a running cluster; `auto` starts one on this machine where none runs."""
    quietly = {"log_to_driver": False, "logging_level": logging.WARNING}
    try:
        if address != "auto":  # Ray itself asks a minute long whether somebody is there
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
        ray.init(address=address, **quietly)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as fault:
        if address == "auto" and isinstance(fault, ConnectionError) and "RAY_ADDRESS" not in os.environ:
            ray.init(address="local", include_dashboard=False, **quietly)
            return
        raise DeviceError(
            f"run.cluster must name a running Ray cluster, 'auto' or HOST:PORT, but {address!r} cannot be reached: "
            f"{' '.join(str(fault).split())[:300]}. Check with 'ray status', and that RAY_AUTH_MODE and "
            "RAY_AUTH_TOKEN_PATH are the same here as on its machines."
        ) from None


def _living(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


class _Actor:
    """Works on one unit at a time and keeps what it works with."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.work: Callable[[Any], Any] = id

    def run(self, key: str, reference: list[Any], unit: Any) -> Any:
        """The result of one unit; `reference` holds the function, fetched when it is a new one."""
        import ray

        if key != self.key:
            self.key, self.work = key, ray.get(reference[0])
        return self.work(unit)

    def ready(self) -> None:
        """Answers once the actor has started."""


@dataclass
class _Pass:
    """One function over many units: what waits, what runs where, and what came back out of turn."""

    cluster: Cluster
    work: Any
    waiting: deque[tuple[int, Any]] = field(default_factory=deque)
    running: dict[Any, tuple[Any, tuple[int, Any]]] = field(default_factory=dict)
    done: dict[int, Any] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)

    def run(self, units: Iterable[Any]) -> Iterator[Any]:
        source, turn = enumerate(units), 0
        ahead = 2 * self.cluster.places + 2  # so that results which wait for their turn stay few
        while True:
            taken = len(self.waiting) + len(self.running) + len(self.done)
            self.waiting += islice(source, ahead - taken)
            if not (self.waiting or self.running or self.done):
                return
            self._start_actors()
            self._hand_out()
            self._collect()
            while turn in self.done:
                yield self.done.pop(turn)
                turn += 1

    def _start_actors(self) -> None:
        """One actor per place; those that died are replaced as long as units wait."""
        cluster = self.cluster
        wanted = min(cluster.places - cluster.num_actors, len(self.waiting) - len(cluster.idle) - len(cluster.starting))
        for _ in range(wanted):
            actor = cluster.actor.remote()
            cluster.num_actors += 1
            cluster.starting[actor.ready.remote()] = actor

    def _hand_out(self) -> None:
        while self.waiting and self.cluster.idle:
            actor, unit = self.cluster.idle.pop(), self.waiting.popleft()
            self.running[actor.run.remote(self.work.hex(), [self.work], unit[1])] = (actor, unit)

    def _collect(self) -> None:
        """Wait for an answer, a death, or an actor that has started."""
        ray, cluster = self.cluster.ray, self.cluster
        limit = None if self.running else START_TIMEOUT_S
        ready, _ = ray.wait([*self.running, *cluster.starting], num_returns=1, timeout=limit)
        if not ready:
            raise DeviceError(
                f"the cluster must have a free place for one of {cluster.places} actors, but none started within "
                f"{START_TIMEOUT_S:.0f} s: {len(_living(ray))} machines live. Look at 'ray status'; free CPUs or GPUs."
            )
        for reference in ready:
            unit = None
            if reference in cluster.starting:
                actor = cluster.starting.pop(reference)
            else:
                actor, unit = self.running.pop(reference)
            try:
                answer = ray.get(reference)
            except ray.exceptions.RayTaskError as fault:
                cluster.idle.append(actor)
                raise (fault.cause if isinstance(fault.cause, Exception) else fault) from None
            except ray.exceptions.RayError as fault:
                self._bury(actor, unit, fault)
                continue
            cluster.idle.append(actor)
            if unit is not None:
                self.done[unit[0]] = answer

    def _bury(self, actor: Any, unit: tuple[int, Any] | None, fault: Exception) -> None:
        """Give a dead actor up; its unit is the next to be handed out."""
        cluster = self.cluster
        cluster.ray.kill(actor)  # its answer may be lost while it lives
        cluster.num_actors -= 1
        cluster.num_lost += 1
        if unit is None:
            return
        number = unit[0]
        self.deaths[number] = self.deaths.get(number, 0) + 1
        cluster.num_again += 1
        LOG.warning("shard %d: its machine or process died (%s); another works on it", number, type(fault).__name__)
        if self.deaths[number] >= MOST_DEATHS:
            raise DeviceError(
                f"each shard must be worked through by one of the cluster's actors, but {MOST_DEATHS} died on shard "
                f"{number}: {' '.join(str(fault).split())[:300]}. Probably it needs more memory than a machine has; make "
                "shards smaller, or give each actor more."
            ) from None
        self.waiting.appendleft(unit)
