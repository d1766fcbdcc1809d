"""The device that a framework computes on: what it can, and how it is traced; in each framework."""
