"""Numbers -> text, figures, pages."""
