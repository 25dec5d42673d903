"""An index as search sees it, without a database."""

from codechunk.state import Generation, IndexRow, Space

COMMIT = "c" * 40
INDEX = IndexRow(
    id=1,
    repository_id=1,
    repository="o/r",
    url="https://github.com/o/r.git",
    epoch=0,
    ref="main",
    space_id=1,
    space=Space(provider="synthetic", model="m", task="t", dimensions=4, header_version=1),
    collection="c",
    fingerprint=None,
    commit=COMMIT,
    published=Generation(index_id=1, space_id=1, number=1),
    publications=1,
    whole=True,
    updated_at=0.0,
)
