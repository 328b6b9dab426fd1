"""Answer programs over HTTP, as OpenAI's chat completions do."""
