"""What the user brings: a model, a hardware profile, a workload."""
