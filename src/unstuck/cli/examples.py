"""Examples at the end of each command's help."""

EXAMPLES = """
[bold]Examples[/bold]

  unstuck diagnose demo:saddle
  unstuck diagnose train.py:setup --html report.html
  unstuck diagnose train.py:setup --checkpoint last.pt --steps 100
  unstuck diagnose train.py:setup --only 'h.11.*' --memory 24GB
  unstuck diagnose mypackage.train:setup --json - | jq .cause
"""

TREATING = """
[bold]Examples[/bold]

  unstuck treat demo:saddle --out treated.pt
  unstuck treat train.py:setup --checkpoint last.pt --out treated.pt
  unstuck treat train.py:setup --remedy smaller-step --out treated.pt
"""

RUNNING = """
[bold]Examples[/bold]

  unstuck run train.py --epochs 10
  unstuck run --path 50 train.py
  unstuck run --out runs -m mypackage.train --epochs 10
  unstuck show runs
"""

SHOWING = """
[bold]Examples[/bold]

  unstuck show unstuck-runs
  unstuck show unstuck-runs --follow
  unstuck show unstuck-runs --html run.html
  unstuck show run.sqlite --json - | jq .optimizers[0].now
"""

SHARPNESS = """
[bold]Examples[/bold]

  unstuck sharpness demo:minimum
  unstuck sharpness train.py:setup --checkpoint last.pt --html sharpness.html
  unstuck sharpness train.py:setup --json - | jq .measures.sam
"""

SPECTRUM = """
[bold]Examples[/bold]

  unstuck spectrum demo:saddle
  unstuck spectrum train.py:setup --checkpoint last.pt --top 20 --html spectrum.html
  unstuck spectrum train.py:setup --blocks --only 'h.*' --memory 24GB
  unstuck spectrum train.py:setup --json - | jq .lambda_min
"""

SURFACE = """
[bold]Examples[/bold]

  unstuck surface demo:saddle --html surface.html
  unstuck surface train.py:setup --checkpoint last.pt --along hessian
  unstuck surface train.py:setup --checkpoint last.pt --run unstuck-runs
  unstuck surface train.py:setup --json - | jq .planes.random.training
"""

SIZING = """
[bold]Examples[/bold]

  unstuck batch demo:healthy
  unstuck batch train.py:setup --budget 5m --to 0.3 --html batch.html
  unstuck batch train.py:setup --json - | jq .recommended
"""

STUDYING = """
[bold]Examples[/bold]

  unstuck study                               the list
  unstuck study escape
  unstuck study all --out studies --jobs 2
  unstuck study all --out studies --resume    after an interruption
"""
