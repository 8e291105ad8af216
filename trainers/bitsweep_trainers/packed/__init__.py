"""Packed integer checkpoints: a trained network in as many bits as it claims.

from bitsweep_trainers.packed.file import load

network = load("model.bits")
network.set_bits(4)
logits = network.predict(images)  # uint8 (N, C, H, W)
"""
