"""Classical models on the same inputs, named as what they are."""
