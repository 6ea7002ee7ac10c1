"""A Django project whose orders are durable: `orders` is the application, `settings` and `urls` the project.

Run `python -m examples.django_shop migrate`, `perdure_server`, `perdure_worker` and `runserver`; see README.md.
"""
