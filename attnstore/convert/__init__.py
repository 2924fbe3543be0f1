"""A checkpoint of TensorFlow 1 becomes a model's folder that transformers reads."""
