"""A model with what comes before and after it, for an export: pixels in, probabilities out, in each framework."""
