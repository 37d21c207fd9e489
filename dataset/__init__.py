"""Candles -> training file: features look back, labels look forward."""
