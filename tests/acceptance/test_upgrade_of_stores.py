"""An index that was made before stores had records of their own is used as it is."""

import os
import sqlite3
from pathlib import Path

from paid_helpers import small_repository
from told_helpers import Told

from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.search.ranking import Query

# From schema 0004 back to 0003, with the tables of that migration.
BACK = """
ALTER TABLE indexes ADD COLUMN vectors_stamp TEXT;
UPDATE indexes SET vectors_stamp = (SELECT stamp FROM index_stores s WHERE s.index_id = indexes.id);
ALTER TABLE indexes DROP COLUMN publications;
CREATE TABLE held AS SELECT index_id, chunk_id, embedding_id FROM index_chunks;
DROP TABLE index_chunks;
CREATE TABLE index_chunks (
    index_id INTEGER NOT NULL, chunk_id VARCHAR(32) NOT NULL, embedding_id INTEGER NOT NULL,
    CONSTRAINT pk_index_chunks PRIMARY KEY (index_id, chunk_id),
    CONSTRAINT fk_index_chunks_embedding_id_embeddings FOREIGN KEY(embedding_id) REFERENCES embeddings (id),
    CONSTRAINT fk_index_chunks_index_id_indexes FOREIGN KEY(index_id) REFERENCES indexes (id)
);
CREATE INDEX ix_index_chunks_embedding_id ON index_chunks (embedding_id);
INSERT INTO index_chunks SELECT * FROM held;
DROP TABLE held;
DROP TABLE index_stores;
DROP TABLE stores;
UPDATE alembic_version SET version_num = '0003';
"""


def test_after_the_upgrade_nothing_is_to_do_and_nothing_is_rebuilt(tmp_path: Path) -> None:
    repo = small_repository(tmp_path / "demo")
    flags = {"data_dir": str(tmp_path / "data"), "embedding.provider": "synthetic"}
    loaded = load_config(config_file=None, flags=flags, environ=os.environ, cwd=tmp_path)
    request, told = IndexRequest(source=str(repo.path), jobs=1), Told()
    with App(loaded) as app:
        first = app.index(request, told)
    database = sqlite3.connect(tmp_path / "data" / "state.db")
    database.executescript(BACK)
    database.close()
    (tmp_path / "data" / "chroma.id").unlink()
    with App(loaded) as app:
        again = app.index(request, told)
        assert again.mode_reason == "nothing changed"
        assert app.search(Query(text="function_3"), repository=None, reporter=told)[0].path == "f3.py"
        repo.commit({"late.py": "def only_late(value):\n    return value * 7\n"})
        assert app.index(request, told).changes.chunks.reused == first.chunks.total
        assert app.search(Query(text="only_late"), repository=None, reporter=told)[0].path == "late.py"
        assert [found.message for found in app.doctor() if found.status in {"error", "warning"}] == []
        with app.workspace.state.database.read() as connection:
            assert len(connection.exec_driver_sql("SELECT * FROM stores").all()) == 1
    assert told.sentences == []
    assert list((tmp_path / "data").glob("state.db.backup-0003"))
