"""The project's pages."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from examples.django_shop.orders import views
from perdure.contrib.django.health import health

urlpatterns = [
    path("admin/", admin.site.urls),
    path("health/", health),
    path("orders/", views.place),
    path("orders/<int:order_id>/", views.show),
    path("orders/<int:order_id>/delivered/", views.delivered),
]
