"""Pretraining and fine-tuning in Lightning."""
