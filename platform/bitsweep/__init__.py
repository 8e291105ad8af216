"""bitsweep: sweeps for neural-network quantization research. Importing it loads nothing heavy."""

__version__ = "0.1.0"
