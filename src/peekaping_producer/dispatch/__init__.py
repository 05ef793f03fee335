"""The path of one check: claim, read, build, settle."""
