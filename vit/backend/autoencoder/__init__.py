"""What a masked autoencoder's decoder is held to, in each framework."""
