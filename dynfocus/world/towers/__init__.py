"""Train the embedded world's own towers in minutes, in place of pretrained encoders and a language model."""
