"""Values and the arithmetic of time: a monitor, its slots, its maintenances. Pure."""
