"""How fast the producer is on this machine, compared with the limits of its parts. README.md explains the figures."""
