"""Columns of feather, parquet and CSV files, read safely. No trading word in it."""
