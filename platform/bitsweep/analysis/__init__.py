"""From rows of the store to tables and statistics; draws nothing and writes nothing."""
