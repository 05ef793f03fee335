"""What a fleet needs: measured costs, and a simulation of its load."""
