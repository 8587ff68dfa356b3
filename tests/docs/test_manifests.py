"""Every YAML block of the pages is YAML; the Kubernetes manifest fits the image."""

from typing import Any

import pytest
import yaml

from evergreen.embedding.http import credentials
from tests.docs.pages import PAGES, ROOT, blocks
from tests.fixtures.paths import PROJECT


@pytest.mark.parametrize("block", [block for page in PAGES for block in blocks(page, "yaml")], ids=str)
def test_it_is_yaml(block):
    assert isinstance(yaml.safe_load(block.code), dict)


def test_the_manifest_gives_the_server_its_keys_and_a_data_directory():
    """The server's user, 999 in the official image, reads keys through the group of the volume."""
    (block,) = blocks(ROOT / "docs" / "how-to" / "secrets.md", "yaml")
    pod: dict[str, Any] = yaml.safe_load(block.code)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["keys"] == {"name": "keys", "mountPath": credentials.DIRECTORY, "readOnly": True}
    assert pod["securityContext"] == {"fsGroup": 999}
    (volume,) = pod["volumes"]
    assert volume["secret"]["defaultMode"] == 0o440
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert environment["PGDATA"].startswith(mounts["data"]["mountPath"] + "/")  # a new volume may hold lost+found
    assert container["image"] in (PROJECT / "Dockerfile.postgres").read_text("utf-8")
