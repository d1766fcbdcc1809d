"""What a model looks at, in each framework: its attention weights, and how its logits change with the image."""
