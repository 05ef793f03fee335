"""The settings, and the variables and files that they come from."""
