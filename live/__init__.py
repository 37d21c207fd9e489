"""A trained model in use by other programs: its formats, and a service."""
