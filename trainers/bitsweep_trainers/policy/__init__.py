"""ABN's decision process: bits chosen per image and layer on a frozen super-network."""
