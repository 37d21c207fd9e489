"""Numbers from arrays, and how sure they are."""
