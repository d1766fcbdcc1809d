"""Muon in each framework: the update of a matrix, held to that of `vit/model/muon.py`."""
