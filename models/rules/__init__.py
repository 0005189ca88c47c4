"""RuleSense: learned profiles, limit rules, verdicts with the numbers behind them."""
