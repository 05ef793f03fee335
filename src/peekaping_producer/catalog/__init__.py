"""The database, read-only: ids in, frozen values out. A failed read raises, and is never an empty one."""
