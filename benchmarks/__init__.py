"""How fast fastnst is, against a textbook loop and other systems, in one run on one machine."""
