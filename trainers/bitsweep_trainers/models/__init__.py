"""Networks, one family a file; `declared` gives their layers without torch."""
