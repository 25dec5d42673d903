"""Alembic's entry: runs the migrations on the connection that `upgrade` opened."""

from alembic import context

from codechunk.state.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
