"""Which files are indexed, and what of their text is secret."""
