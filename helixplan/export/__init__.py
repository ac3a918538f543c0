"""Launch files of engines: how each spells a layout, written and read by one table."""
