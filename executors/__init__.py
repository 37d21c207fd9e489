"""Who does tasks: this process, others of this machine, a Ray cluster."""
