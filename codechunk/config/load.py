"""Configuration: what the keys are, where each value came from, and what is wrong with it in one sentence.

Defaults < YAML file < environment `CODECHUNK_SECTION__KEY` < flags. Secrets come from the environment only
and live beside the Config, never in it, so that a Config can be printed. The keys are in `settings.py`.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from codechunk import providers
from codechunk.config.settings import Config, format_size, format_value
from codechunk.errors import UsageError
from codechunk.process.log import mask_secrets
from codechunk.providers import Provider
from codechunk.providers.pricing import PriceMode

__all__ = ["Config", "Loaded", "Secret", "load_config"]

if TYPE_CHECKING:
    from codechunk.documents import Setting

Key = tuple[str, ...]
# Variables that may hold the token, the first that is set counts; those of keys are their providers' business.
GIT_TOKENS = ("CODECHUNK_GIT_TOKEN",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A value that only the environment holds: which variables are looked at, and which one had it."""

    names: tuple[str, ...]
    found_in: str | None = None
    value: SecretStr | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A Config with where its values came from, and the secrets that must not be in it.

    `origins` has every key: "default", "dev.yaml:12", "env CODECHUNK_GIT__TIMEOUT" or "flag --data-dir".
    """

    config: Config
    origins: Mapping[str, str]
    git_token: Secret
    file: Path | None
    environ: Mapping[str, str] = field(repr=False)

    def api_key(self, provider: Provider) -> Secret:
        """The key of a provider. Raises UsageError when what the environment holds cannot be one."""
        return _secret(provider.key_variables, self.environ)

    @property
    def _keyed(self) -> list[Provider]:
        """The providers whose keys are looked at in any case: Gemini, and the configured one."""
        named = dict.fromkeys(("gemini", self.config.embedding.provider))
        return [provider for name in named if (provider := providers.get(name)).key_variables]

    def secret_values(self) -> list[str]:
        """The plain secrets, for the log's mask."""
        found = (*(self.api_key(provider).value for provider in self._keyed), self.git_token.value)
        return [secret.get_secret_value() for secret in found if secret is not None]

    def settings(self) -> "list[Setting]":
        """Every setting with its value and origin, as `config show` tells them."""
        from codechunk.documents import Setting  # late: of all commands only `config show` needs it

        return [Setting(key=key, value=value, origin=origin) for key, value, origin in self.rows()]

    def rows(self) -> list[tuple[str, str, str]]:
        """(key, value, origin) of every setting; of a secret only whether it is set, and where."""
        rows = []
        for key in _leaves():
            value: Any = self.config
            for part in key:
                value = getattr(value, part)
            text = mask_secrets(format_size(value) if key[-1] == "max_file_size" else format_value(value))
            rows.append((_dotted(key), text, self.origins[_dotted(key)]))
        rows.extend(self._price_rows())
        secrets = {f"{provider.name}_api_key": self.api_key(provider) for provider in self._keyed}
        for name, secret in (*secrets.items(), ("git_token", self.git_token)):
            origin = f"env {secret.found_in}" if secret.found_in else f"env {' or '.join(secret.names)}"
            rows.append((name, "set" if secret.found_in else "not set", origin))
        return rows

    def _price_rows(self) -> Iterator[tuple[str, str, str]]:
        modes: tuple[PriceMode, ...] = ("direct", "batch")
        listed = {**providers.get("gemini").prices, **self.config.priced_provider.prices}
        for model in sorted({*listed, *self.config.pricing}):
            for mode in modes:
                key = f"pricing.{model}.{mode}"
                own = self.config.pricing.get(model, {}).get(mode)
                if own is not None:
                    yield key, format_value(own), self.origins[key]
                elif model in listed:
                    price = listed[model]
                    yield key, format_value(getattr(price, mode)), f"default (list price of {price.as_of})"


def load_config(
    *,
    config_file: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    find_file: bool = True,
    secrets_only: bool = False,
) -> Loaded:
    """The configuration of this run, with the origin of every value. With nothing given, that of a bare command.

    Args:
        config_file: the YAML file; None: CODECHUNK_CONFIG, else codechunk.yaml in `cwd`.
        settings: values instead of a file: sections as mappings, or keys with dots.
        flags: dotted keys (`"git.timeout"`); None and empty lists are flags that were not given.
        environ: the environment; None: that of this process.
        cwd: the folder that relative paths of files start from; None: the current one.
        find_file: whether to look for a file that nobody named here.
        secrets_only: read keys and tokens from the environment and no settings, for programs that have their own.

    Raises:
        UsageError: names every wrong key, its value, where it came from and the nearest known key.
    """
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    file, asked_for = (None, False)
    if config_file is not None or find_file:
        file, asked_for = _which_file(config_file, environ, cwd)
    layers = [_flag_layer(flags or {}), _environment_layer({} if secrets_only else environ)]
    if settings is not None:
        layers.append(_settings_layer(settings))
    if file is not None:
        layers.append(_file_layer(cwd / file, str(file), trusted=asked_for))
    given: dict[str, Any] = {"layers": [layer.tree() for layer in layers]}
    try:
        config = Config(**given)
    except ValidationError as exc:
        raise UsageError("\n".join(_problem(error, layers) for error in exc.errors())) from exc
    origins = {_dotted(key): "default" for key in _leaves()}
    for layer in reversed(layers):
        origins |= {_dotted(key): layer.origins[key] for key in layer.values}
    loaded = Loaded(
        config=config,
        origins=origins,
        git_token=_secret(GIT_TOKENS, environ),
        file=None if file is None else cwd / file,
        environ=environ,
    )
    loaded.secret_values()  # a key that cannot be one is told now, whatever the command
    return loaded


# ---------------------------------------------------------------- layers

_PREFIX = "CODECHUNK_"
# Read by others or below, and no setting: the rest of CODECHUNK_… is held against the known keys.
_OTHER_VARIABLES = {"CONFIG", "GEMINI_API_KEY", "GIT_TOKEN", "CRASH", "VENV"}
_SECRET_NAME = re.compile(r"(^|[._])(api_?)?(key|token|secret|password|passwd|credentials?)$")
_FLAG_NAMES = {
    "token_counting.mode": "--token-mode",
    "batch_processing.use_test_embeddings": "--test-embeddings",
    "log.level": "-v or -q",
    "log.format": "--log-format",
}


@dataclass(frozen=True, slots=True)
class _Layer:
    """Values of one source by key, and where each stands. `origins` also knows inner nodes of the file."""

    values: dict[Key, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)

    def put(self, key: Key, value: Any, origin: str) -> None:
        self.values[key] = value
        self.origins[key] = origin

    def tree(self) -> dict[str, Any]:
        root: dict[str, Any] = {}
        for key, value in self.values.items():
            node = root
            for part in key[:-1]:
                node = node.setdefault(part, {})
            node[key[-1]] = value
        return root


@cache
def _leaves() -> dict[Key, bool]:
    """Every key but `pricing`, in the order of the design, and whether its value is a list."""
    found: dict[Key, bool] = {}

    def walk(model: type[BaseModel], above: Key) -> None:
        for name, info in model.model_fields.items():
            kind = info.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                walk(kind, (*above, name))
            elif name != "pricing":
                found[(*above, name)] = str(kind).startswith("tuple")

    walk(Config, ())
    return found


@cache
def _sections() -> frozenset[Key]:
    return frozenset(key[:depth] for key in _leaves() for depth in range(len(key)))


def _dotted(key: Key) -> str:
    return ".".join(key)


def _which_file(asked: Path | None, environ: Mapping[str, str], cwd: Path) -> tuple[Path | None, bool]:
    """The file to read, and whether somebody named it (rather than it lying in the current folder)."""
    if asked is not None:
        return asked, True
    if environ.get("CODECHUNK_CONFIG"):
        return Path(environ["CODECHUNK_CONFIG"]), True
    found = Path("codechunk.yaml")
    return (found, False) if (cwd / found).is_file() else (None, False)


def _file_layer(path: Path, shown: str, *, trusted: bool) -> _Layer:
    layer = _Layer()
    try:
        loader = yaml.SafeLoader(path.read_bytes())
        root = loader.get_single_node()
        if root is not None:
            _read_node(loader, root, (), layer, shown)
    except OSError as exc:
        raise UsageError(f"The configuration file {shown} cannot be read: {exc.strerror}.") from exc
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise UsageError(f"The configuration file is not valid YAML ({shown}:{line}): {exc.problem}.") from exc
    except RecursionError as exc:
        raise UsageError(f"The configuration file {shown} is nested too deeply.") from exc
    except yaml.reader.ReaderError as exc:
        raise UsageError(f"The configuration file {shown} is not YAML text in UTF-8: {exc.reason}.") from exc
    if not trusted:
        _refuse_foreign_provider(layer)
    return layer


def _refuse_foreign_provider(layer: _Layer) -> None:
    """A codechunk.yaml that came with a cloned repository must not send key and code to its author."""
    key = ("embedding", "base_url")
    value = layer.values.get(key)
    if value is not None and urlsplit(str(value)).hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise UsageError(
            f"embedding.base_url = {mask_secrets(str(value))} ({layer.origins[key]}) says where your API key "
            "and code are sent, so it is not taken from a file that merely lies in the current folder; "
            "if you trust it, use --config codechunk.yaml."
        )


def _read_node(loader: yaml.SafeLoader, node: yaml.Node, key: Key, layer: _Layer, shown: str) -> None:
    """Put the values below this YAML node into the layer, each with its line."""
    origin = f"{shown}:{node.start_mark.line + 1}"
    in_prices = key[:1] == ("pricing",) and len(key) < 3
    if key in _sections() or in_prices:
        if node.tag == "tag:yaml.org,2002:null":
            return
        if not isinstance(node, yaml.MappingNode):
            name = _dotted(key) or "The configuration"
            raise UsageError(f"{name} ({origin}) must be a section with keys below it, not a single value.")
        loader.flatten_mapping(node)
        seen = set()
        for name_node, value_node in node.value:
            name = str(getattr(name_node, "value", name_node))
            inner = (*key, name)
            place = f"{shown}:{name_node.start_mark.line + 1}"
            if name in seen:
                raise UsageError(f"{_dotted(inner)} ({place}) is there twice; keep one.")
            seen.add(name)
            if not (inner in _leaves() or inner in _sections() or inner[0] == "pricing"):
                raise _unknown(inner, loader.construct_object(value_node, deep=True), place)
            layer.origins[inner] = place
            _read_node(loader, value_node, inner, layer, shown)
        return
    value = loader.construct_object(node, deep=True)
    if key == ("state", "url") and isinstance(value, str) and urlsplit(value).password:
        reason = "a password does not belong in a file; set CODECHUNK_STATE__URL in the environment"
        raise UsageError(f"state.url ({origin}): {reason}.")
    layer.put(key, value, layer.origins.get(key, origin))


def _parts(name: str, above: Key) -> Sequence[str]:
    """The parts of a key that a program wrote with dots. Names of models, below `pricing`, have dots of their own."""
    if above[:1] == ("pricing",):
        return [name]
    first, *rest = name.split(".")
    if first != "pricing" or len(rest) < 2:
        return [first, *rest]
    return [first, ".".join(rest[:-1]), rest[-1]] if rest[-1] in ("direct", "batch") else [first, ".".join(rest)]


def _settings_layer(settings: Mapping[str, Any]) -> _Layer:
    """Values that a program gave: sections as mappings, keys with or without dots."""
    layer, origin = _Layer(), "config"

    def read(values: Mapping[str, Any], above: Key) -> None:
        for name, value in values.items():
            key = (*above, *_parts(str(name), above))
            inner = key in _sections() or (key[:1] == ("pricing",) and len(key) < 3)
            if key[:1] != ("pricing",) and key not in _leaves() and not inner:
                raise _unknown(key, value, origin)
            if not inner:
                layer.put(key, str(value) if isinstance(value, Path) else value, origin)
            elif isinstance(value, Mapping):
                layer.origins[key] = origin
                read(value, key)
            else:
                raise UsageError(f"{_dotted(key)} ({origin}) must be a section with keys below it, not a single value.")

    read(settings, ())
    return layer


def _environment_layer(environ: Mapping[str, str]) -> _Layer:
    layer = _Layer()
    for name, text in sorted(environ.items()):
        rest = name.removeprefix(_PREFIX)
        # An empty variable is one that was not given: CI systems set them so.
        if rest == name or rest in _OTHER_VARIABLES or not text:
            continue
        key = tuple(rest.lower().split("__"))
        if key in _leaves():
            layer.put(key, _from_text(text, is_list=_leaves()[key]), f"env {name}")
        elif key == ("pricing",):
            _put_prices(text, layer, f"env {name}")
        elif ("__" in rest or _looks_like_a_setting(rest)) and not _is_key_variable(name):
            raise _unknown(key, text, f"env {name}")
    return layer


def _is_key_variable(name: str) -> bool:
    """Whether a provider takes its key from there, whatever the name looks like."""
    for provider in providers.names():
        with suppress(UsageError):  # one that cannot be loaded is told when it is used
            if name in providers.get(provider).key_variables:
                return True
    return False


def _looks_like_a_setting(rest: str) -> bool:
    """Whether CODECHUNK_<rest> is probably a misspelled setting. CODECHUNK_PORT, which Kubernetes sets, is not."""
    if (rest.lower(),) in _sections():
        return True
    known = {"__".join(key).upper() for key in _leaves()} | _OTHER_VARIABLES
    return bool(get_close_matches(rest, known, n=1, cutoff=0.85))


def _from_text(text: str, *, is_list: bool) -> object:
    if text.strip().lower() in {"null", "none"}:
        return None
    if not is_list:
        return text.strip()
    try:
        items = json.loads(text)
    except ValueError:
        items = None  # globs between commas, which may begin with a bracket: [ab]*.py
    if isinstance(items, list):
        return items
    return [part.strip() for part in text.split(",") if part.strip()]


def _put_prices(text: str, layer: _Layer, origin: str) -> None:
    try:
        prices = json.loads(text)
        for model, modes in prices.items():
            for mode, usd in modes.items():
                layer.put(("pricing", model, mode), usd, origin)
    except (ValueError, AttributeError) as exc:
        example = '{"gemini-embedding-001": {"direct": 0.15, "batch": 0.075}}'
        raise UsageError(f"pricing ({origin}) must be JSON like {example}.") from exc


def _flag_layer(flags: Mapping[str, Any]) -> _Layer:
    layer = _Layer()
    for dotted, value in flags.items():
        if value is None or (isinstance(value, list | tuple) and not value):
            continue
        key = tuple(dotted.split("."))
        if key not in _leaves():
            raise KeyError(f"a flag sets {dotted!r}, which is no configuration key")
        name = _FLAG_NAMES.get(dotted, "--" + key[-1].replace("_", "-"))
        layer.put(key, value, f"flag {name}")
    return layer


def _secret(names: tuple[str, ...], environ: Mapping[str, str]) -> Secret:
    for name in names:
        text = environ.get(name, "").strip()
        if not text:
            continue
        if not text.isascii() or not text.isprintable() or " " in text:
            raise UsageError(f"{name} has characters in it that no key has; copy the key again, on one line.")
        return Secret(names=names, found_in=name, value=SecretStr(text))
    return Secret(names=names)


# ---------------------------------------------------------------- what is wrong, in words


def _unknown(key: Key, value: object, origin: str) -> UsageError:
    dotted = _shown(_dotted(key))
    if _SECRET_NAME.search(dotted) and isinstance(value, str):
        variable = "CODECHUNK_GIT_TOKEN" if "git" in dotted else "CODECHUNK_GEMINI_API_KEY"
        return UsageError(
            f"{dotted} ({origin}) looks like a secret, and codechunk takes secrets only from the "
            f"environment: set {variable}, and remove it here."
        )
    nearest = _nearest(key)
    hint = f"did you mean {nearest}?" if nearest else "`codechunk config show` lists the known ones."
    return UsageError(f"Unknown setting {dotted} = {_shown(value)} ({origin}); {hint}")


def _nearest(key: Key) -> str | None:
    """The known key that was probably meant: the same name elsewhere, else the most similar one."""
    known = [_dotted(leaf) for leaf in _leaves()] + [_dotted(section) for section in _sections() if section]
    same_name = [name for name in known if name.split(".")[-1] == key[-1]]
    close = get_close_matches(_dotted(key), same_name or [*known, "pricing"], n=1, cutoff=0.0 if same_name else 0.6)
    if close:
        return close[0]
    beside = [_dotted((*key[:-1], name[-1])) for name in _leaves() if name[:-1] == key[:-1]]
    return next(iter(get_close_matches(_dotted(key), beside, n=1, cutoff=0.5)), None)


def _problem(error: ErrorDetails, layers: Sequence[_Layer]) -> str:
    context = error.get("ctx", {})
    key = tuple(str(context["key"]).split(".")) if error["type"] == "does_not_fit" else _known_part(error["loc"])
    origin = next((layer.origins[key] for layer in layers if key in layer.origins), "default")
    value = next((layer.values[key] for layer in layers if key in layer.values), None)
    if origin == "default":
        value = _default(key)
    reason = str(context["error"]) if error["type"] == "value_error" else _in_words(error)
    end = "" if reason.endswith(("?", ".")) else "."
    return f"{_dotted(key)} = {_shown(value)} ({origin}): {reason}{end}"


def _known_part(location: tuple[int | str, ...]) -> Key:
    """The key inside pydantic's location, which goes on into list items and union branches."""
    key = tuple(str(part) for part in location if part != "[key]")
    if key[0] == "pricing":
        return key[:3]
    return next(key[:depth] for depth in range(len(key), 0, -1) if key[:depth] in _leaves())


def _in_words(error: ErrorDetails) -> str:
    if error["type"] == "tuple_type":
        return "a list is needed, like [a, b]"
    if error["type"] == "greater_than" and isinstance(error["input"], timedelta | str):
        return "it must be longer than nothing"
    message = error["msg"].removeprefix("Input ")
    return message[0].lower() + message[1:]


def _default(key: Key) -> object:
    value: Any = Config()
    for part in key:
        value = getattr(value, part)
    return value


def _shown(value: object) -> str:
    """The value for a sentence; the file may be a stranger's, with endless aliases and escape sequences."""
    items = value if isinstance(value, list) else ()
    if isinstance(value, dict) or any(isinstance(item, list | dict) for item in items):
        return "{...}"
    text = mask_secrets(format_value(value))
    text = text if text.isprintable() else json.dumps(text)
    return text if len(text) <= 80 else text[:77] + "..."
