"""Random steps on the real scripts, compared with a model."""
