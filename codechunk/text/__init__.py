"""Texts and what is counted in them: chunks, words, tokens. Pure."""
