"""Pictures in strips: geometry, storage by band, and sums that do not depend on who adds them."""
