"""The image, built once a run by a container engine, and containers of it."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import docker
import pytest
from docker.errors import BuildError
from testcontainers.core.image import DockerImage

from tests.fixtures.paths import PROJECT
from tests.packaging.containers import import_base, running
from tests.packaging.engine import NoEngineError, engine

IMAGE = "pg-evergreen:test"


@pytest.fixture(scope="session")
def own_engine() -> Iterator[bool]:
    """An engine that answers; whether it is started for the tests, and then has the tests' base image only."""
    try:
        with engine() as ours:
            if ours:
                import_base()
            yield ours
    except NoEngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def image(own_engine: bool) -> Iterator[str]:
    """The name of the image that Dockerfile.postgres makes."""
    try:
        with DockerImage(path=PROJECT, dockerfile_path="Dockerfile.postgres", tag=IMAGE) as made:
            yield str(made)
    except BuildError as error:
        pytest.fail("".join(line.get("stream", "") for line in error.build_log)[-6000:])


@pytest.fixture
def run(image: str) -> Any:
    """Run the image, as ``running`` does: ``with run(command, POSTGRES_USER='alice') as database``."""
    return partial(running, image)


@pytest.fixture
def volume(own_engine: bool) -> Iterator[str]:
    """The name of a new volume."""
    with closing(docker.from_env()) as client:
        made = client.volumes.create()
        yield made.name
        made.remove(force=True)
