"""The science of bitsweep: data, models, quantizers and methods. torch lives here alone."""
