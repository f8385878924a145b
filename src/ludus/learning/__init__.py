"""Returns, masked statistics and normalisers: the pieces that several algorithms share."""
