"""A pool of Ray actors, each an embedder. Ray restarts an actor that dies; its rows return when their lease expires.

Ray Core rather than Ray Data: an endless queue is not a data set, and after the loss of a node Ray Data repeats work on
rows whose claims may have expired. A restarted actor claims new rows.
"""

import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import psycopg

from evergreen_host.compute.client import lease_seconds
from evergreen_host.compute.embedder import Embedder, Settings
from evergreen_host.errors import CommandError, MissingError
from evergreen_host.report import Report

_OBJECT_STORE_BYTES = 100 * 1024 * 1024  # of a local cluster; actors share no objects


@dataclass(frozen=True)
class RayPool:
    """Number, place and resources of the actors."""

    actors: int
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0


def run(settings: Settings, pool: RayPool, report: Report) -> int:
    """Run the pool until the queue is empty, or forever; return the number of embedded texts.

    Raises MissingError without Ray, CommandError if an actor fails.
    """
    ray = _import_ray()
    try:
        seconds = lease_seconds(settings.dsn, settings.lease)
    except psycopg.Error as error:
        raise CommandError(str(error).strip(), "check --dsn and --lease") from error
    local_options = {"object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
    ray.init(address=pool.address, log_to_driver=False, **({} if pool.address else local_options))
    try:
        return _Supervisor(ray, settings, pool, seconds, report).run()
    finally:
        ray.shutdown()


def _import_ray() -> Any:
    try:
        return import_module("ray")
    except ImportError as error:
        raise MissingError("Ray is not installed", "run: pip install 'pg-evergreen[ray]'") from error


class _Supervisor:
    """Runs the actors and waits for them."""

    def __init__(self, ray: Any, settings: Settings, pool: RayPool, lease_seconds: float, report: Report) -> None:
        self._ray = ray
        self._report = report
        self._lease_seconds = lease_seconds
        self._last_death: float | None = None
        actor_class = ray.remote(Embedder).options(num_cpus=pool.cpus, num_gpus=pool.gpus, max_restarts=-1)
        self._actors: list[Any] = [actor_class.remote(settings) for _ in range(pool.actors)]
        self._done = 0

    def run(self) -> int:
        """Wait for all actors; after a death, run again once the lost claim's lease has expired."""
        self._run_actors()
        while self._last_death is not None:
            delay = self._last_death + self._lease_seconds - time.monotonic()
            self._last_death = None
            if delay > 0:
                self._report.busy(f"waiting {delay:.0f} s for the lease of an actor that died")
                time.sleep(delay)
            self._run_actors()
        return self._done

    def _run_actors(self) -> None:
        running = {actor.run.remote(): actor for actor in self._actors}
        while running:
            (finished,), _ = self._ray.wait([*running], num_returns=1)
            actor = running.pop(finished)
            try:
                self._done += int(self._ray.get(finished))
            except self._ray.exceptions.RayTaskError as error:
                raise CommandError(f"an actor failed: {error.cause}", "its rows are back in the queue") from error
            except self._ray.exceptions.RayActorError:
                self._last_death = time.monotonic()
                self._report.busy("an actor died; Ray restarts it")
                running[actor.run.remote()] = actor
