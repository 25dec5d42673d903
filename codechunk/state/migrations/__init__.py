"""Schema migrations of the state database, carried out by Alembic and shipped in the package."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest schema in one transaction.

    On SQLite the transaction is `BEGIN IMMEDIATE`, so a second process waits and then finds the work done;
    killed in the middle, the database keeps its old schema.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.execution_options(codechunk_write=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
