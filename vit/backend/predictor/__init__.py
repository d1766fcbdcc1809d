"""A model's forward pass for who has images and wants logits, in each framework: on its device."""
