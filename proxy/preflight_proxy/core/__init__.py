"""The pure core: everything that is decidable from values; it does no I/O and reads no clock."""
