"""Quantization methods, one file each; `declared` describes them without torch."""
