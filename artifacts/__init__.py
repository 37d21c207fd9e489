"""A run's folder, published whole, opened safely."""
