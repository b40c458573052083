"""How good a checkpoint is: clips drawn from it and judged, beside what real clips would give.

`run.Evaluation` takes the measures one after the other; `report.Report` is what came of them, as lines, JSON or a page.
"""
