"""Weights, biases and steps learned by gradient, without labels, through the rounding of the integer network."""
