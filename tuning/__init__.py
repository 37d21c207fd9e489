"""Tuning: a search of settings that never sees the test part, and what it chose."""
