"""Floor 7: the command line. One file per command; `main` is the entry point."""
