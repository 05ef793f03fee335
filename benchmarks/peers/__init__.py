"""Other schedulers that do the same work, to compare with ours."""
