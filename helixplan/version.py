"""The two versions a plan records: the program's and the cost model's."""

__version__ = "0.1.0"

COST_MODEL_VERSION = "1.2"
"""Changes whenever a formula of docs/cost-model.md does, so that a difference between two plans can be blamed on it."""

SCHEMA_VERSION = "1.0"
"""Of the plan's JSON. A minor version only adds keys."""
