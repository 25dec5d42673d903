"""One run of `index`: cutting, the plan of a dry run, publishing, the report."""
