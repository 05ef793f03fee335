"""The path of one check: claim, read, plan, settle."""
