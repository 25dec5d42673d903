"""Every table of the state database, as SQLAlchemy Core sees it.

The same definitions serve SQLite and PostgreSQL. Alembic's migrations in `codechunk/state/migrations` create them;
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
    false,
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
        "publications",
        Integer,
        nullable=False,
        server_default="0",
        comment="how often searches were switched to what a run made; a store names the one it is up to date with",
    ),
    Column(
        "whole",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="every chunk of the published generation has its vector",
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
    Column("secrets", Integer, nullable=True, comment="secrets replaced in it by markers; NULL: not looked for"),
    Column("chunks", Integer, nullable=False, server_default="0", comment="how many chunks it was cut into"),
    Column("counted", Integer, nullable=False, server_default="0", comment="chunks with an exact token count"),
    Column("tokens", BigInteger, nullable=False, server_default="0", comment="their tokens"),
    Column("characters", BigInteger, nullable=False, server_default="0", comment="text and headers of all its chunks"),
    Column("counted_characters", BigInteger, nullable=False, server_default="0", comment="those of the counted chunks"),
    UniqueConstraint("repository_id", "path", "blob", "fingerprint"),
    Index(None, "repository_id", "blob"),
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
    Column("kind", Text, nullable=False, comment="see codechunk.text.chunks.Kind"),
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
    Column("batch_id", String(32), nullable=True, comment="batch job it is in, or was in last; see batches"),
    Column("owner", Text, nullable=True, comment="process that sends it directly now"),
    Column("lease_until", Float, nullable=True, comment="when the owner's claim ends, on the lease clock"),
    Column("next_at", Float, nullable=True, comment="not before this time, seconds since 1970; NULL: at once"),
    Column("route", Text, nullable=False, server_default="any", comment="any | direct: its batch jobs ended badly"),
    Column("job_id", String(32), nullable=True, comment="the run of index that asked for it last"),
    Column("paid", Text, nullable=True, comment="direct | batch: how its vector was bought; NULL: not, or free"),
    Column("tokens", Integer, nullable=True, comment="the provider's own count; NULL: it told none"),
    UniqueConstraint("space_id", "text_sha"),
    Index(None, "space_id", "state", "id"),
    Index(None, "batch_id"),
    Index(None, "job_id", "state"),
    comment="One row per text and vector space: a text is bought once.",
)

vectors = Table(
    "vectors",
    metadata,
    Column("embedding_id", ForeignKey("embeddings.id"), primary_key=True, autoincrement=False),
    Column("vector", LargeBinary, nullable=False, comment="little-endian float16, as long as the space says"),
    comment="The vectors themselves: the cache from which Chroma is rebuilt.",
)

stores = Table(
    "stores",
    metadata,
    Column("id", Id, primary_key=True),
    Column(
        "identity",
        Text,
        nullable=True,
        unique=True,
        comment="what tells it from other stores; NULL: of a database older than this table, not claimed yet",
    ),
    Column(
        "place",
        Text,
        nullable=True,
        comment="whereabouts of the data directory that has it; NULL: one of many, or not known",
    ),
    comment="Places that hold a copy of vectors: a Chroma directory, or a Chroma server.",
)

index_stores = Table(
    "index_stores",
    metadata,
    Column("index_id", ForeignKey("indexes.id"), primary_key=True, autoincrement=False),
    Column("store_id", ForeignKey("stores.id"), primary_key=True, autoincrement=False, comment="which store"),
    Column(
        "stamp",
        Text,
        nullable=True,
        comment="look of the store when its copy of the index was last sound; NULL: not known to be complete",
    ),
    Column(
        "publication",
        Integer,
        nullable=False,
        comment="the publication of the index whose every vector the store holds; 0: none",
    ),
    comment="How far the copy of an index in a store is.",
)

index_chunks = Table(
    "index_chunks",
    metadata,
    Column("index_id", ForeignKey("indexes.id"), primary_key=True, autoincrement=False),
    Column("store_id", ForeignKey("stores.id"), primary_key=True, autoincrement=False, comment="which store"),
    Column("chunk_id", String(32), primary_key=True),
    Column("embedding_id", ForeignKey("embeddings.id"), nullable=False, comment="the vector it has there"),
    Index(None, "embedding_id"),  # or each text that is deleted scans all of this for its foreign key
    comment="What a store holds of an index, written after the upsert.",
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
        comment="running | embedding | succeeded | partial | failed | cancelled | superseded (by another commit's run)",
    ),
    Column("attempts", Integer, nullable=False, comment="1 plus how often it was taken up again"),
    Column("redo", Boolean, nullable=False, comment="asked for with --full: everything is cut again"),
    Column("error", Text, nullable=True, comment="what stopped it"),
    Column("report", Text, nullable=True, comment="the JSON document of index --json"),
    Column("plan", Text, nullable=True, comment="JSON: what is needed to finish it once its vectors are there"),
    Column("requests", Integer, nullable=False, server_default="0", comment="direct calls made for it"),
    Column("started_at", Float, nullable=False, comment="seconds since 1970, UTC"),
    Column("finished_at", Float, nullable=True, comment="seconds since 1970, UTC"),
    Index(None, "index_id"),
    comment="Runs of `codechunk index`.",
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(32), primary_key=True, comment="random, 32 hex digits"),
    Column("space_id", ForeignKey("spaces.id"), nullable=False, comment="vector space of its texts"),
    Column("state", Text, nullable=False, comment="one of BatchState"),
    Column("display_name", Text, nullable=False, unique=True, comment="its name at the provider, new each attempt"),
    Column("texts", Integer, nullable=False, comment="texts claimed for it"),
    Column("tokens", Integer, nullable=False, comment="their tokens, estimated"),
    Column("priority", Integer, nullable=False, comment="at the provider; higher goes first"),
    Column("upload_began_at", Float, nullable=True, comment="intent: an upload may exist from here on"),
    Column("file_name", Text, nullable=True, comment="the uploaded file's name at the provider"),
    Column("file_expires_at", Float, nullable=True, comment="when the provider deletes it, seconds since 1970"),
    Column("file_sha", String(64), nullable=True, comment="sha256 of the file's bytes"),
    Column("create_began_at", Float, nullable=True, comment="intent: a remote job may exist from here on"),
    Column("remote_name", Text, nullable=True, comment="the job's name at the provider"),
    Column("remote_state", Text, nullable=True, comment="the provider's word for its state when last asked"),
    Column("result_file", Text, nullable=True, comment="file with its results at the provider"),
    Column("cancel_began_at", Float, nullable=True, comment="when the provider was asked to cancel it"),
    Column("cancelled_by_user", Boolean, nullable=False, comment="asked for by a person: it is not sent again"),
    Column("submissions", Integer, nullable=False, comment="submissions the provider turned away, in a row"),
    Column("failures", Integer, nullable=False, comment="how often its remote job ended badly"),
    Column("rows_ok", Integer, nullable=False, comment="vectors taken from its results"),
    Column("rows_failed", Integer, nullable=False, comment="rows of its results that were errors or no good vectors"),
    Column("rows_ignored", Integer, nullable=False, comment="duplicate and unknown keys in its results"),
    Column("billed_tokens", Integer, nullable=False, comment="tokens of its results by the provider's count"),
    Column("error", Text, nullable=True, comment="what went wrong last"),
    Column("owner", Text, nullable=True, comment="process that works on it now"),
    Column("lease_until", Float, nullable=True, comment="when the owner's claim ends, on the lease clock"),
    Column("fence", Integer, nullable=False, comment="raised by each claim: writes of an older claim are refused"),
    Column("created_at", Float, nullable=False, comment="seconds since 1970, UTC"),
    Column("submitted_at", Float, nullable=True, comment="when its remote job was recorded"),
    Column("next_at", Float, nullable=False, comment="not before this time, seconds since 1970"),
    Column("finished_at", Float, nullable=True, comment="seconds since 1970, UTC"),
    Index(None, "state", "next_at"),
    comment="Batch jobs: the intent is here before the provider hears of it.",
)

facts = Table(
    "facts",
    metadata,
    Column("name", Text, primary_key=True, comment="throttle | calibration:<space> | notice:<name>"),
    Column("value", Text, nullable=False, comment="JSON"),
    comment="Small facts that all processes share.",
)
