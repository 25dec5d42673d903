"""Google's Gemini Developer API as a provider. The SDK is imported by the first call of a client."""

from codechunk.providers.contract import BatchLimits, Client, ClientSettings, Model, Provider
from codechunk.providers.gemini.facts import INPUT_TOKENS, KEY_VARIABLES, MOST_BATCH_BYTES, MOST_TEXTS
from codechunk.providers.pricing import LIST_PRICES


def _open(settings: ClientSettings) -> Client:
    from codechunk.providers.gemini.client import Gemini
    from codechunk.providers.gemini.form import Form

    return Gemini(
        api_key=settings.api_key or "",
        form=Form(settings.model, settings.dimensions, settings.task),
        base_url=settings.base_url,
        api_version=settings.api_version,
        timeout_s=settings.timeout_s,
    )


PROVIDER = Provider(
    name="gemini",
    title="Gemini",
    open=_open,
    # Both make any number of dimensions up to 3,072, and refuse others.
    models={name: Model(input_tokens=limit, price=LIST_PRICES.get(name)) for name, limit in INPUT_TOKENS.items()},
    operator="Google",
    key_variables=KEY_VARIABLES,
    texts_per_call=MOST_TEXTS,
    batch=BatchLimits(bytes=MOST_BATCH_BYTES),
)
