"""Several processes that compute one picture: how they speak to each other, and who owns what."""
