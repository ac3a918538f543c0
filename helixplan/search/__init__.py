"""Which layout: the rules, the candidates, the exact batch, the solver's proof, and the conflict where there is none."""
