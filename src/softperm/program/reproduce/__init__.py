"""The tables of the paper: their cells trained, measured and set beside the paper's figures."""
