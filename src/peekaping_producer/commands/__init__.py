"""What operators ask the fleet from a shell: its status, a run at once, and why a monitor is or is not checked."""
