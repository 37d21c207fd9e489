"""Rows -> what is learned from: splits, parts, scales, balance, windows."""
