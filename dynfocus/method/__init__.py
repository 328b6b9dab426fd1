"""Compute Figure 2 of the paper: sketch, DPE, CCE and the connector between encoder and language model."""
