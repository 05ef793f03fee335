"""Prepares a release on the maintainer's machine; publishing is the release workflow's work (CONTRIBUTING.md)."""
