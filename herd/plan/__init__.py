"""What a run will need before it is spent: FLOPs, seconds and bytes, from shapes and a measured rate.

``estimate`` holds the arithmetic of one training run and the sum over a recipe; ``machine`` measures the rate of the
machine at hand.  ``herd plan RECIPE`` prints it, and the report shows it beside what was measured.
"""
