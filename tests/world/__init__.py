"""What tests share: frames, runs, pages, commands."""
