"""Positions that were learned: what they came to, their report, answers to candles."""
