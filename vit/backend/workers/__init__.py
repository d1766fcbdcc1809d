"""Several workers in each framework: how they find each other, and the collectives between them."""
