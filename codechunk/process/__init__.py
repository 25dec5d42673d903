"""This process among others: signals, locks, the log, crash points for tests."""
