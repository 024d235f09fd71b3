"""Films in a painter's hand, without flicker (Ruder, Dosovitskiy and Brox 2016)."""
