"""Gemini through its official SDK: the client, its replies, its HTTP side and its result files."""
