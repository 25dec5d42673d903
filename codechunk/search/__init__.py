"""Search: the vector store as a question sees it, and the ranking of what was found."""
