"""The docs as a site: `python -m docs.site` builds it; zensical.toml is its configuration."""
