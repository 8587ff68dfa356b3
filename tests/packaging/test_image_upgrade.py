"""The image of the next version on the volume of this one; skipped where no engine can be had."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from testcontainers.core.image import DockerImage

from evergreen_host.packaging import dist
from tests.docs.pages import PAGES
from tests.fixtures.releases import later_files
from tests.packaging import image_story, imageroot
from tests.packaging.containers import running

pytestmark = pytest.mark.root

LATER = "99.0.0"
LIBRARY = Path(f"/usr/lib/postgresql/{imageroot.MAJOR}/lib/evergreen")
FILES = f"/usr/share/postgresql/{imageroot.MAJOR}/extension"


def _dockerfile(image: str) -> str:
    version = dist.version()
    return f"""
FROM {image}
RUN mv {LIBRARY}/{version} {LIBRARY}/{LATER}; rm -r {LIBRARY}/{LATER}/evergreen/__pycache__ {FILES}/evergreen*; \
    sed -i 's/{version}/{LATER}/' {LIBRARY}/{LATER}/evergreen/__init__.py
COPY evergreen* {FILES}/
"""


@pytest.fixture
def later(image: str, tmp_path: Path) -> Iterator[str]:
    """An image as the next version's: its files in place of this one's."""
    for name, content in later_files(LATER, LIBRARY / LATER).items():
        (tmp_path / name).write_text(content, "utf-8")
    (tmp_path / "Dockerfile").write_text(_dockerfile(image), "utf-8")
    with DockerImage(path=tmp_path, tag="pg-evergreen:test-later") as made:
        yield str(made)


def test_a_named_volume_is_upgraded_as_the_page_says(run: Callable[..., Any], later: str, volume: str):
    with run(data=volume) as database, database.connected() as db:
        image_story.answers_a_question(db)
        image_story.stays_fresh_unattended(db)
    with running(later, data=volume) as database, database.connected() as db:
        db.execute("INSERT INTO docs VALUES (5, 'Captured', 'without the library')")
        with pytest.raises(psycopg.errors.UndefinedFile, match="server-side library of evergreen") as caught:
            db.execute("SELECT embed_search('docs', 'captured')")
        hint = caught.value.diag.message_hint or ""
        statement = hint.partition(";")[0]
        assert any(f"`{statement}`" in page.read_text("utf-8") for page in PAGES)
        db.execute(statement)  # type: ignore[call-overload]
        image_story.is_embedded_by_itself(db, 6)
        assert db.execute("SELECT is_stale FROM docs_embedding WHERE id = 5").fetchone() == (False,)
        found = db.execute("SELECT extversion FROM pg_extension WHERE extname = 'evergreen'").fetchone()
        assert found == (LATER,)
