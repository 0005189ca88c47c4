"""The units of the plant: physics only, one pure file each."""
