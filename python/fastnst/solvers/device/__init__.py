"""The solver with every number on the device, so that a GPU never waits for the host."""
