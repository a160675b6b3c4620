"""Floor 2: from an expression to code."""
