"""What a call cost whose answer did not say so."""
