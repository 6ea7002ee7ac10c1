"""What a user sets for this browser: theme, times, codec, access token."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from perdure.ui.codec import CodecError, check_endpoint
from perdure.ui.context import Context
from perdure.ui.page import Page, Redirect, RefusedError
from perdure.ui.preferences import MAX_COOKIE_BYTES, THEMES, TIMES


def _page(context: Context, error: str = "", entered: str | None = None) -> Page:
    preferences = context.preferences
    data = {
        "settings": {
            "theme": preferences.theme,
            "times": preferences.times,
            "codec_endpoint": preferences.codec_endpoint if entered is None else entered,
            "codec_auth": preferences.codec_auth,
            "server_codec_endpoint": context.config.codec_endpoint,
            "may_set_codec": context.config.is_local,
            "has_token": context.has_token,
            "address": context.config.address,
        },
        "codec_error": error,
    }
    return Page("settings.html", "Settings", data, 400 if error else 200, {"themes": THEMES, "times": TIMES})


async def show(context: Context) -> Page:
    """The settings."""
    return _page(context)


async def save(context: Context) -> Page | Redirect:
    """Keeps them."""
    theme, times = context.field("theme"), context.field("times")
    endpoint = context.field("codec_endpoint")
    if endpoint and not context.config.is_local:
        return _page(
            context, "Only the one who runs this UI can set a codec, because others can reach it.", endpoint
        )
    try:
        endpoint = check_endpoint(endpoint) if endpoint else ""
    except CodecError as error:
        return _page(context, str(error), endpoint)
    preferences = replace(
        context.preferences,
        theme=theme if theme in THEMES else context.preferences.theme,
        times=times if times in TIMES else context.preferences.times,
        codec_endpoint=endpoint,
        codec_auth=bool(context.field("codec_auth")),
    )
    return Redirect(context.url("settings"), "The settings were saved in this browser.", preferences)


async def save_token(context: Context) -> Redirect:
    """Keeps or forgets the access token."""
    token = context.field("token")
    if not (token.isascii() and token.isprintable()) or len(quote(token)) > MAX_COOKIE_BYTES:
        raise RefusedError(
            400,
            f"This is no access token: one is of ASCII characters, and no longer than {MAX_COOKIE_BYTES}.",
        )
    done = (
        "The access token is sent with every call from now on."
        if token
        else "The access token was forgotten."
    )
    return Redirect(context.url("settings"), done, token=token)
