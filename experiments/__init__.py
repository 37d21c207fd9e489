"""Several runs, one question: series, comparison, analysts."""
