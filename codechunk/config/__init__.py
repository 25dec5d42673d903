"""Configuration: which keys there are, and where their values come from."""
