"""A NestJS application with a worker in Node and a worker in Python; see README.md. Python's part is `price_worker`."""
