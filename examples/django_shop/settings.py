"""Settings of the project. What a deployment decides comes from the environment."""

from __future__ import annotations

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

DATA_FOLDER = Path(os.environ.get("SHOP_DATA", "."))
SECRET_KEY = os.environ.get("SHOP_SECRET_KEY") or get_random_secret_key()
DEBUG = os.environ.get("SHOP_DEBUG", "1") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "perdure.contrib.django",
    "examples.django_shop.orders",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "examples.django_shop.urls"
STATIC_URL = "static/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_FOLDER / "shop.sqlite3",
        # Writers wait for each other instead of failing: requests, activities and the sweep all write.
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL",
        },
        "TEST": {"NAME": DATA_FOLDER / "test-shop.sqlite3"},
    }
}

if os.environ.get("SHOP_DATABASE") == "postgresql":
    # Where it is and who asks is in the environment that every client of it reads (PGHOST, PGUSER, PGPASSWORD ...).
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ.get("PGDATABASE", "shop"),
            "TEST": {"NAME": os.environ.get("SHOP_TEST_DATABASE", "test_shop")},
        }
    }

PERDURE = {
    "ADDRESS": os.environ.get("PERDURE_ADDRESS", "127.0.0.1:7233"),
    "TASK_QUEUE": "shop",
    "DATABASE": str(DATA_FOLDER / "perdure.db"),
    "UI_URL": "http://127.0.0.1:8233",
}
