"""Each video's sketch, computed once and kept on disk."""
