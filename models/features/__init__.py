"""From packets and tag samples to one feature window per period."""
