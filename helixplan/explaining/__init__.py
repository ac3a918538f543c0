"""Why a plan is the best, what would move it, and how far it holds."""
