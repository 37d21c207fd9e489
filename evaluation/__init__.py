"""Predictions -> numbers with reference and interval; signals, trades, claims."""
