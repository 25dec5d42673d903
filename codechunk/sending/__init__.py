"""Texts on their way to a provider: batch jobs, direct calls, claims, and the loop that drives them."""
