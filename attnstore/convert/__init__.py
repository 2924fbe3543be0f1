"""Converts a TensorFlow 1 checkpoint into a model folder that transformers can read."""
