"""Put the towers around the method: loading, adapters, prompts, batches, and the processor of transformers."""
