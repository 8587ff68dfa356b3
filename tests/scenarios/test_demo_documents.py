"""The demo reads its documents correctly and selects the same ones everywhere."""

from pathlib import Path

from evergreen_host.demo import corpus, documents, session
from evergreen_host.demo.documents import Document, sample

TRANSLATION = """\
Package: painter
Description-md5: 0c13253910a0a1bd77c64d38c07351a0
Description-en: program to paint with
 It paints, on
 one canvas.
 .
 It knows:
  * brushes
  * colours

Package: libpainter1
Description-md5: 1c13253910a0a1bd77c64d38c07351a0
Description-en: library to paint with
 A library.
"""


def test_description_is_unfolded_into_paragraphs():
    painter, library = documents.parse_descriptions(TRANSLATION)
    assert painter.title == "painter: program to paint with"
    assert painter.body == "It paints, on one canvas.\n\nIt knows:\n* brushes\n* colours"
    assert library.name == "libpainter1"


def test_libraries_and_parts_are_no_programs():
    def kept(name: str) -> bool:
        return documents.is_program(Document(name, name, "long enough " * 20))

    assert kept("gimp")
    assert not any(map(kept, ["libgimp2.0", "gimp-data", "python3-numpy", "node-express"]))


def test_standard_library_gives_documents_without_importing_it():
    found = {document.name: document for document in documents.python_docstrings()}
    assert found["shutil.copytree"].title.startswith("shutil.copytree: Recursively copy")
    assert not any(name.startswith(("test.", "idlelib")) for name in found)


def test_sample_does_not_depend_on_the_order_and_holds_the_wanted():
    several = [Document(f"name {number}", "", "") for number in range(50)]
    chosen = sample(several, 10, ["name 7"])
    assert chosen == sample(several[::-1], 10, ["name 7"])
    assert chosen[0].name == "name 7"
    assert len(chosen) == 10


def test_every_collection_has_ten_questions():
    assert len(corpus.questions("debian")) == len(corpus.questions("python")) == 10


def test_named_queries_come_without_their_descriptions(tmp_path: Path):
    path = tmp_path / "some.sql"
    path.write_text(
        "-- A file.\n\n-- one --\n-- Says one.\nSELECT 1;\n\n-- two --\n-- Says\n-- two.\nSELECT 2\n  -- really\n;\n"
    )
    assert session.load_queries(path) == {"one": "SELECT 1", "two": "SELECT 2\n  -- really\n"}
