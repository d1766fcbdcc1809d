"""Who is measured in `benchmarks/step.py`: each contender is a function that takes turns in a process of its own."""
