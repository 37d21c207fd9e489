"""Stages that build on each other: each a run, one order, one lineage."""
