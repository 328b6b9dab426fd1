"""Run the paper's ablations on the embedded world through the command line, and lay out what came of them."""
