"""How fast the Producer is, measured on this machine beside the limits of its parts. README.md explains the figures."""
