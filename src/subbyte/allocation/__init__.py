"""Bits where they count: sensitivities and costs per layer, an exact solver under budgets, and the search around it."""
