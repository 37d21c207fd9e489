"""What a run is, before anything heavy is imported: values, sources, names, sizes."""
