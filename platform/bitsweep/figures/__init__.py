"""Drawing: a chart of `analysis` becomes a file for a paper or a page for a browser."""
