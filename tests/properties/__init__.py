"""Random steps on the real scripts, held beside a model."""
