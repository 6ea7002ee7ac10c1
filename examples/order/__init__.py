"""The order application: a shop's front end, a durable function and its worker; and `demo`, which crashes all of it.

models       what is ordered, and how an order stands
workflows    the durable function: charge, confirm, wait for the delivery
activities   what it does to the outside world, which the ledger stands in for
worker       the process that runs both; stop it whenever you like
web          the front end; it keeps nothing itself
demo/        starts, kills and restarts everything, and proves what came of it (`make demo`)
"""
