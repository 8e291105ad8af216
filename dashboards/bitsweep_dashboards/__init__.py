"""Pages over the result store; they read and draw, and compute nothing."""
