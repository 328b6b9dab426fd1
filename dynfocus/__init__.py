"""DynFocus: dynamic event focus between a vision encoder and a language model, for video question answering."""
