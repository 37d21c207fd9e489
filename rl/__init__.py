"""Agents that learn positions: their market, the algorithms, their accounts."""
