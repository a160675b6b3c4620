"""ActSearch: a symbolic search engine for neural-network activation functions."""
