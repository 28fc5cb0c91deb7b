"""What people decided on the landslides of an inventory."""
