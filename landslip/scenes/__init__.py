"""What a downloaded scene says of itself."""
