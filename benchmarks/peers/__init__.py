"""Other schedulers, doing the same work beside ours."""
