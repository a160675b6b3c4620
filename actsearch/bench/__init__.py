"""Benchmarks: `actsearch bench NAME`. Each measures us next to a floor, in the same run."""
