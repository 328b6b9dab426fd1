"""Judge answers with language models, by prompts that lie beside this file."""
