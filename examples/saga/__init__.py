"""Trip booking as a saga: car, hotel and flight, undone in reverse order when one cannot be had.

`trip` is the application; `__main__` books one trip for each step that can fail. Run `python -m examples.saga`.
"""
