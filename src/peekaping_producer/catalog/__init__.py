"""Peekaping's database, read-only: ids in, frozen values out. A failed read raises; it is never an empty one."""
