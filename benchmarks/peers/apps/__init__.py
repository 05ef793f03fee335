"""How each scheduler of PyPI is used: these run in the environment of the group `bench`, without our packages."""
