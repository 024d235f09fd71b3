"""Contact sheets: one picture for each combination of values, in rows and columns with labels."""
