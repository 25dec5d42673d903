"""Every table of the state database, as SQLAlchemy Core sees it.

The same definitions serve SQLite and PostgreSQL. Alembic's migrations in `codechunk/migrations` create them;
a test compares the two. The lexical index (`chunk_words`, SQLite FTS5) has no SQLAlchemy type.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives a rowid alias, and so automatic numbers, only to INTEGER PRIMARY KEY; PostgreSQL wants 64 bits.
Id = BigInteger().with_variant(Integer(), "sqlite")

repositories = Table(
    "repositories",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True, comment="what people type after --repo"),
    Column("url", Text, nullable=False, unique=True, comment="normalised URL or absolute path, no credentials"),
    Column("epoch", Integer, nullable=False, comment="raised by index --full: older chunkings are not reused"),
    Column("created_at", Float, nullable=False, comment="seconds since 1970, UTC"),
    comment="Repositories that were ever indexed.",
)

spaces = Table(
    "spaces",
    metadata,
    Column("id", Id, primary_key=True),
    Column("provider", Text, nullable=False, comment="gemini | synthetic"),
    Column("model", Text, nullable=False, comment="the model's own name; test vectors have their own"),
    Column("dimensions", Integer, nullable=False, comment="length of each vector"),
    Column("task", Text, nullable=False, comment="task type the documents are embedded with"),
    Column("header_version", Integer, nullable=False, comment="form of the context header in the text"),
    UniqueConstraint("provider", "model", "dimensions", "task", "header_version"),
    comment="Vector spaces: vectors of two different rows are never compared.",
)

indexes = Table(
    "indexes",
    metadata,
    Column("id", Id, primary_key=True),
    Column("repository_id", ForeignKey("repositories.id"), nullable=False, comment="whose index"),
    Column("ref", Text, nullable=False, comment="branch, tag or commit as the user names it"),
    Column("space_id", ForeignKey("spaces.id"), nullable=False, comment="vector space of its vectors"),
    Column("collection", Text, nullable=False, unique=True, comment="name of its Chroma collection"),
    Column("fingerprint", Text, nullable=True, comment="settings that change chunks, of the published state"),
    Column("commit_sha", Text, nullable=True, comment="commit that search answers from; NULL before the first"),
    Column("generation", Integer, nullable=False, comment="published generation of files; 0 before the first"),
    Column(
        "vectors_stamp",
        Text,
        nullable=True,
        comment="look of Chroma's directory when last sound; NULL: not known to be complete",
    ),
    Column("updated_at", Float, nullable=False, comment="last publication, seconds since 1970, UTC"),
    UniqueConstraint("repository_id", "ref", "space_id"),
    comment="One searchable index per repository, ref and vector space.",
)

sources = Table(
    "sources",
    metadata,
    Column("id", Id, primary_key=True),
    Column("repository_id", ForeignKey("repositories.id"), nullable=False, comment="chunk ids contain its URL"),
    Column("path", Text, nullable=False, comment="path inside the repository"),
    Column("blob", String(64), nullable=False, comment="git blob id of the content"),
    Column("fingerprint", Text, nullable=False, comment="chunker, settings and epoch that cut it"),
    Column("language", Text, nullable=True, comment="language the content was read as"),
    Column("status", Text, nullable=False, comment="partial | chunked | skipped | failed"),
    Column("reason", Text, nullable=True, comment="why skipped or failed"),
    Column("fallback", Text, nullable=True, comment="why it was cut by lines instead of syntax"),
    UniqueConstraint("repository_id", "path", "blob", "fingerprint"),
    comment="Contents that were read: cut once, shared by every ref with the same blob at the same path.",
)

files = Table(
    "files",
    metadata,
    Column("id", Id, primary_key=True),
    Column("index_id", ForeignKey("indexes.id"), nullable=False, comment="which index"),
    Column("path", Text, nullable=False, comment="path inside the repository"),
    Column("blob", String(64), nullable=False, comment="git blob id, or the commit of a submodule"),
    Column("size_bytes", BigInteger, nullable=True, comment="size of the blob; NULL for a submodule"),
    Column("status", Text, nullable=False, comment="planned | indexed | skipped | failed"),
    Column("reason", Text, nullable=True, comment="why skipped or failed"),
    Column("source_id", ForeignKey("sources.id"), nullable=True, comment="its content, once read"),
    Column("from_generation", Integer, nullable=False, comment="first generation of the index that has this row"),
    Column("to_generation", Integer, nullable=True, comment="first generation without it; NULL while it lives"),
    Index(None, "index_id", "to_generation", "path"),
    Index(None, "source_id"),
    comment="Every entry of an indexed tree, either indexed or with the reason why not.",
)

chunks = Table(
    "chunks",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False, comment="the content it was cut from"),
    Column("ordinal", Integer, nullable=False, comment="position among the source's chunks, from 0"),
    Column("chunk_id", String(32), nullable=False, comment="stable public id; the id in Chroma"),
    Column("kind", Text, nullable=False, comment="see codechunk.chunks.Kind"),
    Column("symbol", Text, nullable=True, comment="qualified name of the definition"),
    Column("start_line", Integer, nullable=False, comment="1-based"),
    Column("end_line", Integer, nullable=False, comment="1-based, inclusive"),
    Column("start_byte", BigInteger, nullable=False, comment="offset in the blob"),
    Column("end_byte", BigInteger, nullable=False, comment="offset in the blob, exclusive"),
    Column("header", Text, nullable=False, comment="context header; empty when there is none"),
    Column("text", Text, nullable=False, comment="exact slice of the file"),
    Column("tokens", Integer, nullable=True, comment="exact cl100k count of what is embedded; NULL = not counted"),
    Column("text_sha", String(64), nullable=False, comment="sha256 of what is embedded: header and text"),
    UniqueConstraint("source_id", "ordinal"),
    Index(None, "chunk_id"),
    Index(None, "text_sha"),
    comment="Chunks of every source.",
)

embeddings = Table(
    "embeddings",
    metadata,
    Column("id", Id, primary_key=True),
    Column("space_id", ForeignKey("spaces.id"), nullable=False, comment="vector space"),
    Column("text_sha", String(64), nullable=False, comment="sha256 of the text embedded"),
    Column("state", Text, nullable=False, comment="pending | processing | ready | failed"),
    Column("attempts", Integer, nullable=False, comment="how often it was tried"),
    Column("error", Text, nullable=True, comment="why it failed last"),
    UniqueConstraint("space_id", "text_sha"),
    Index(None, "space_id", "state", "id"),
    comment="One row per text and vector space: a text is bought once.",
)

vectors = Table(
    "vectors",
    metadata,
    Column("embedding_id", ForeignKey("embeddings.id"), primary_key=True, autoincrement=False),
    Column("vector", LargeBinary, nullable=False, comment="little-endian float16, as long as the space says"),
    comment="The vectors themselves: the cache from which Chroma is rebuilt.",
)

index_chunks = Table(
    "index_chunks",
    metadata,
    Column("index_id", ForeignKey("indexes.id"), primary_key=True, autoincrement=False),
    Column("chunk_id", String(32), primary_key=True),
    Column("embedding_id", ForeignKey("embeddings.id"), nullable=False, comment="the vector it has there"),
    comment="What the Chroma collection of an index holds, written after the upsert.",
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True, comment="random, 12 hex digits"),
    Column("index_id", ForeignKey("indexes.id"), nullable=False, comment="what it makes"),
    Column("commit_sha", Text, nullable=False, comment="commit it indexes, fixed at the start"),
    Column(
        "status",
        Text,
        nullable=False,
        comment="running | embedding | succeeded | partial | failed | cancelled",
    ),
    Column("attempts", Integer, nullable=False, comment="1 plus how often it was taken up again"),
    Column("redo", Boolean, nullable=False, comment="asked for with --full: everything is cut again"),
    Column("error", Text, nullable=True, comment="what stopped it"),
    Column("report", Text, nullable=True, comment="the JSON document of index --json"),
    Column("started_at", Float, nullable=False, comment="seconds since 1970, UTC"),
    Column("finished_at", Float, nullable=True, comment="seconds since 1970, UTC"),
    Index(None, "index_id"),
    comment="Runs of `codechunk index`.",
)
