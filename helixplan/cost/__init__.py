"""What a layout costs: pure functions of arrays, one entry a layout. The formulas are told in docs/cost-model.md."""
