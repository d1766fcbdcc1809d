"""Dropout in each framework: `vit.model.dropout` evaluated inside the step, to the same bits."""
