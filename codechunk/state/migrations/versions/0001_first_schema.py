"""First schema"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _repositories()
    _spaces()
    _embeddings()
    _indexes()
    _sources()
    _chunks()
    _files()
    _index_chunks()
    _jobs()
    _vectors()
    _chunk_words()


def _repositories() -> None:
    op.create_table(
        "repositories",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="what people type after --repo"),
        sa.Column("url", sa.Text(), nullable=False, comment="normalised URL or absolute path, no credentials"),
        sa.Column(
            "epoch", sa.Integer(), nullable=False, comment="raised by index --full: older chunkings are not reused"
        ),
        sa.Column("created_at", sa.Float(), nullable=False, comment="seconds since 1970, UTC"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repositories")),
        sa.UniqueConstraint("name", name=op.f("uq_repositories_name")),
        sa.UniqueConstraint("url", name=op.f("uq_repositories_url")),
        comment="Repositories that were ever indexed.",
    )


def _spaces() -> None:
    op.create_table(
        "spaces",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False, comment="gemini | synthetic"),
        sa.Column("model", sa.Text(), nullable=False, comment="the model's own name; test vectors have their own"),
        sa.Column("dimensions", sa.Integer(), nullable=False, comment="length of each vector"),
        sa.Column("task", sa.Text(), nullable=False, comment="task type the documents are embedded with"),
        sa.Column("header_version", sa.Integer(), nullable=False, comment="form of the context header in the text"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spaces")),
        sa.UniqueConstraint(
            "provider",
            "model",
            "dimensions",
            "task",
            "header_version",
            name=op.f("uq_spaces_provider_model_dimensions_task_header_version"),
        ),
        comment="Vector spaces: vectors of two different rows are never compared.",
    )


def _embeddings() -> None:
    op.create_table(
        "embeddings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "space_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, comment="vector space"
        ),
        sa.Column("text_sha", sa.String(length=64), nullable=False, comment="sha256 of the text embedded"),
        sa.Column("state", sa.Text(), nullable=False, comment="pending | processing | ready | failed"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="how often it was tried"),
        sa.Column("error", sa.Text(), nullable=True, comment="why it failed last"),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name=op.f("fk_embeddings_space_id_spaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embeddings")),
        sa.UniqueConstraint("space_id", "text_sha", name=op.f("uq_embeddings_space_id_text_sha")),
        comment="One row per text and vector space: a text is bought once.",
    )
    with op.batch_alter_table("embeddings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_embeddings_space_id_state_id"), ["space_id", "state", "id"], unique=False)


def _indexes() -> None:
    op.create_table(
        "indexes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, comment="whose index"
        ),
        sa.Column("ref", sa.Text(), nullable=False, comment="branch, tag or commit as the user names it"),
        sa.Column(
            "space_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="vector space of its vectors",
        ),
        sa.Column("collection", sa.Text(), nullable=False, comment="name of its Chroma collection"),
        sa.Column(
            "fingerprint", sa.Text(), nullable=True, comment="settings that change chunks, of the published state"
        ),
        sa.Column(
            "commit_sha", sa.Text(), nullable=True, comment="commit that search answers from; NULL before the first"
        ),
        sa.Column(
            "generation", sa.Integer(), nullable=False, comment="published generation of files; 0 before the first"
        ),
        sa.Column(
            "vectors_stamp",
            sa.Text(),
            nullable=True,
            comment="look of Chroma's directory when last sound; NULL: not known to be complete",
        ),
        sa.Column("updated_at", sa.Float(), nullable=False, comment="last publication, seconds since 1970, UTC"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_indexes_repository_id_repositories")
        ),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name=op.f("fk_indexes_space_id_spaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_indexes")),
        sa.UniqueConstraint("collection", name=op.f("uq_indexes_collection")),
        sa.UniqueConstraint("repository_id", "ref", "space_id", name=op.f("uq_indexes_repository_id_ref_space_id")),
        comment="One searchable index per repository, ref and vector space.",
    )


def _sources() -> None:
    op.create_table(
        "sources",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "repository_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="chunk ids contain its URL",
        ),
        sa.Column("path", sa.Text(), nullable=False, comment="path inside the repository"),
        sa.Column("blob", sa.String(length=64), nullable=False, comment="git blob id of the content"),
        sa.Column("fingerprint", sa.Text(), nullable=False, comment="chunker, settings and epoch that cut it"),
        sa.Column("language", sa.Text(), nullable=True, comment="language the content was read as"),
        sa.Column("status", sa.Text(), nullable=False, comment="partial | chunked | skipped | failed"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why skipped or failed"),
        sa.Column("fallback", sa.Text(), nullable=True, comment="why it was cut by lines instead of syntax"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_sources_repository_id_repositories")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint(
            "repository_id", "path", "blob", "fingerprint", name=op.f("uq_sources_repository_id_path_blob_fingerprint")
        ),
        comment="Contents that were read: cut once, shared by every ref with the same blob at the same path.",
    )


def _chunks() -> None:
    op.create_table(
        "chunks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "source_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="the content it was cut from",
        ),
        sa.Column("ordinal", sa.Integer(), nullable=False, comment="position among the source's chunks, from 0"),
        sa.Column("chunk_id", sa.String(length=32), nullable=False, comment="stable public id; the id in Chroma"),
        sa.Column("kind", sa.Text(), nullable=False, comment="see codechunk.text.chunks.Kind"),
        sa.Column("symbol", sa.Text(), nullable=True, comment="qualified name of the definition"),
        sa.Column("start_line", sa.Integer(), nullable=False, comment="1-based"),
        sa.Column("end_line", sa.Integer(), nullable=False, comment="1-based, inclusive"),
        sa.Column("start_byte", sa.BigInteger(), nullable=False, comment="offset in the blob"),
        sa.Column("end_byte", sa.BigInteger(), nullable=False, comment="offset in the blob, exclusive"),
        sa.Column("header", sa.Text(), nullable=False, comment="context header; empty when there is none"),
        sa.Column("text", sa.Text(), nullable=False, comment="exact slice of the file"),
        sa.Column(
            "tokens", sa.Integer(), nullable=True, comment="exact cl100k count of what is embedded; NULL = not counted"
        ),
        sa.Column(
            "text_sha", sa.String(length=64), nullable=False, comment="sha256 of what is embedded: header and text"
        ),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name=op.f("fk_chunks_source_id_sources")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chunks")),
        sa.UniqueConstraint("source_id", "ordinal", name=op.f("uq_chunks_source_id_ordinal")),
        comment="Chunks of every source.",
    )
    with op.batch_alter_table("chunks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_chunks_chunk_id"), ["chunk_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_chunks_text_sha"), ["text_sha"], unique=False)


def _files() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "index_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, comment="which index"
        ),
        sa.Column("path", sa.Text(), nullable=False, comment="path inside the repository"),
        sa.Column("blob", sa.String(length=64), nullable=False, comment="git blob id, or the commit of a submodule"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True, comment="size of the blob; NULL for a submodule"),
        sa.Column("status", sa.Text(), nullable=False, comment="planned | indexed | skipped | failed"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why skipped or failed"),
        sa.Column(
            "source_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="its content, once read",
        ),
        sa.Column(
            "from_generation", sa.Integer(), nullable=False, comment="first generation of the index that has this row"
        ),
        sa.Column(
            "to_generation", sa.Integer(), nullable=True, comment="first generation without it; NULL while it lives"
        ),
        sa.ForeignKeyConstraint(["index_id"], ["indexes.id"], name=op.f("fk_files_index_id_indexes")),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name=op.f("fk_files_source_id_sources")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
        comment="Every entry of an indexed tree, either indexed or with the reason why not.",
    )
    with op.batch_alter_table("files", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_files_index_id_to_generation_path"), ["index_id", "to_generation", "path"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_files_source_id"), ["source_id"], unique=False)


def _index_chunks() -> None:
    op.create_table(
        "index_chunks",
        sa.Column(
            "index_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("chunk_id", sa.String(length=32), nullable=False),
        sa.Column(
            "embedding_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="the vector it has there",
        ),
        sa.ForeignKeyConstraint(
            ["embedding_id"], ["embeddings.id"], name=op.f("fk_index_chunks_embedding_id_embeddings")
        ),
        sa.ForeignKeyConstraint(["index_id"], ["indexes.id"], name=op.f("fk_index_chunks_index_id_indexes")),
        sa.PrimaryKeyConstraint("index_id", "chunk_id", name=op.f("pk_index_chunks")),
        comment="What the Chroma collection of an index holds, written after the upsert.",
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=32), nullable=False, comment="random, 12 hex digits"),
        sa.Column(
            "index_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, comment="what it makes"
        ),
        sa.Column("commit_sha", sa.Text(), nullable=False, comment="commit it indexes, fixed at the start"),
        sa.Column(
            "status",
            sa.Text(),
            nullable=False,
            comment="running | embedding | succeeded | partial | failed | cancelled",
        ),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="1 plus how often it was taken up again"),
        sa.Column("redo", sa.Boolean(), nullable=False, comment="asked for with --full: everything is cut again"),
        sa.Column("error", sa.Text(), nullable=True, comment="what stopped it"),
        sa.Column("report", sa.Text(), nullable=True, comment="the JSON document of index --json"),
        sa.Column("started_at", sa.Float(), nullable=False, comment="seconds since 1970, UTC"),
        sa.Column("finished_at", sa.Float(), nullable=True, comment="seconds since 1970, UTC"),
        sa.ForeignKeyConstraint(["index_id"], ["indexes.id"], name=op.f("fk_jobs_index_id_indexes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        comment="Runs of `codechunk index`.",
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_jobs_index_id"), ["index_id"], unique=False)


def _vectors() -> None:
    op.create_table(
        "vectors",
        sa.Column(
            "embedding_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column(
            "vector", sa.LargeBinary(), nullable=False, comment="little-endian float16, as long as the space says"
        ),
        sa.ForeignKeyConstraint(["embedding_id"], ["embeddings.id"], name=op.f("fk_vectors_embedding_id_embeddings")),
        sa.PrimaryKeyConstraint("embedding_id", name=op.f("pk_vectors")),
        comment="The vectors themselves: the cache from which Chroma is rebuilt.",
    )


def _chunk_words() -> None:
    # BM25 over sub-words of path, symbol and text: SQLite's own full-text index. Its words are already cut
    # (codechunk/text/words.py); porter stems the English ones.
    if op.get_bind().dialect.name == "sqlite":
        op.execute("CREATE VIRTUAL TABLE chunk_words USING fts5(path, symbol, body, tokenize='porter unicode61')")
        _fix_statistics()


def _fix_statistics() -> None:
    """Tell SQLite's planner the shape of a large database, for good.

    Without statistics it begins joins at the vector space, which nearly all rows share: storing 14,000 chunks took
    13 s instead of 3. Statistics of its own would be those of the first, perhaps tiny, repository. So the database
    carries fixed ones (https://sqlite.org/optoverview.html, "manual control of query plans"), and no ANALYZE is run.
    """
    op.execute("ANALYZE")  # makes the table
    op.execute("DELETE FROM sqlite_stat1")
    statistics = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
    op.bulk_insert(
        statistics,
        [
            {"tbl": table, "idx": index, "stat": rows}
            for table, index, rows in (
                ("chunks", "sqlite_autoindex_chunks_1", "1000000 20 1"),
                ("chunks", "ix_chunks_chunk_id", "1000000 2"),
                ("chunks", "ix_chunks_text_sha", "1000000 2"),
                ("embeddings", "sqlite_autoindex_embeddings_1", "1000000 500000 1"),
                ("embeddings", "ix_embeddings_space_id_state_id", "1000000 500000 200000 1"),
                ("files", "ix_files_index_id_to_generation_path", "100000 10000 5000 1"),
                ("files", "ix_files_source_id", "100000 2"),
                ("index_chunks", "sqlite_autoindex_index_chunks_1", "1000000 20000 1"),
                ("sources", "sqlite_autoindex_sources_1", "100000 10000 2 1 1"),
            )
        ],
    )
