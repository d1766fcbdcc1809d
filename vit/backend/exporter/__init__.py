"""A model in a file that other programs run, by the exporter of each framework; `vit/backend/runtime` runs it."""
