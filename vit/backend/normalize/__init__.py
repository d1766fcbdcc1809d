"""Normalization in each framework, of images that leave the pipeline as pixels: to the bits of the host's."""
