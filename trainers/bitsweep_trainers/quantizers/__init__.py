"""Quantizers: functions on tensors with their gradients, one form a file."""
