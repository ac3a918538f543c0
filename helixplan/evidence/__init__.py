"""Why to believe the numbers: measurements, the constants fitted to them, and predictions held against both."""
