"""The demonstration of `make demo`: the order application, and somebody who crashes everything around it.

story       starts an order, kills what works on it, starts it again, and collects the evidence
processes   the processes of the story
checks      what must have come of it
timeline    the event history as text
picture     a screenshot of it in the web UI
keeping     what is left behind to look at

Run `python -m examples.order.demo`.
"""
