"""Pictures in and out: decode, resize, colours, encode."""
