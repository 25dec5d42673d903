"""Providers by name: built in, brought by other packages, and what is wrong with one in a sentence."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import codechunk
from codechunk import providers
from codechunk.config.load import load_config
from codechunk.errors import UsageError

GOOD = "from codechunk.providers import Provider\nPROVIDER = Provider(name={name!r}, title='Other', open=None)\n"
Package = Callable[..., None]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Installs a package that registers a provider: its code, under a name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(code: str, *, name: str = "other", package: str = "other_provider") -> None:
        (tmp_path / f"{package}.py").write_text(code)
        info = tmp_path / f"{package}-2.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.1\n")
        (info / "entry_points.txt").write_text(f"[codechunk.providers]\n{name} = {package}:PROVIDER\n")
        monkeypatch.delitem(sys.modules, package, raising=False)

    providers.get.cache_clear()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield install
    providers.get.cache_clear()


def refused(name: str) -> str:
    with pytest.raises(UsageError) as caught:
        providers.get(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_built_in_ones_are_there() -> None:
    assert providers.names() == ["gemini", "synthetic"]
    assert [providers.get(name).name for name in providers.names()] == providers.names()
    assert [providers.is_free(name) for name in providers.names()] == [False, True]


def test_another_package_may_bring_one(outside: None) -> None:
    assert providers.names() == ["gemini", "synthetic", "tiny"]
    assert providers.get("tiny").title == "Tiny"
    assert not providers.is_free("tiny")


def test_one_that_is_not_there_is_refused_with_the_nearest_name(outside: None) -> None:
    assert refused("gemni") == "There is no provider 'gemni'; did you mean gemini?"
    assert refused("tinny") == "There is no provider 'tinny'; did you mean tiny?"
    assert refused("qqq") == "There is no provider 'qqq'; there are gemini, synthetic, tiny."
    assert not providers.is_free("qqq"), "one that is not installed any more was perhaps paid"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("", "AttributeError"),
        ("PROVIDER = 3", "is a int, not a codechunk.providers.Provider"),
        (GOOD.format(name="another"), "it calls itself 'another'"),
    ],
)
def test_a_broken_one_is_one_sentence_that_names_its_package(package: Package, code: str, why: str) -> None:
    package(code)
    message = refused("other")
    assert message.startswith("The provider 'other' of the package other_provider 2.1 cannot be used: ")
    assert why in message


def test_a_broken_one_disturbs_nobody_who_does_not_ask_for_it(package: Package) -> None:
    package("1 / 0")
    assert providers.get("gemini").title == "Gemini"
    assert providers.is_known("other")
    assert "other" in providers.names()


def test_one_that_two_packages_bring_is_refused(package: Package) -> None:
    package(GOOD.format(name="other"))
    package(GOOD.format(name="other"), package="third_provider")
    assert refused("other") == (
        "The provider 'other' is registered twice, by other_provider 2.1 and third_provider 2.1; uninstall one of them."
    )


@pytest.mark.parametrize("name", ["gemini", "synthetic"])
def test_nobody_takes_over_a_built_in_name(package: Package, name: str) -> None:
    package(GOOD.format(name=name), name=name)
    assert providers.get(name).title == name.capitalize()
    assert providers.names() == ["gemini", "synthetic"]


def configured(folder: Path, provider: str, **environ: str) -> object:
    environ = {"CODECHUNK_EMBEDDING__PROVIDER": provider, **environ}
    return load_config(config_file=None, flags={}, environ=environ, cwd=folder)


def test_a_setting_takes_every_name_that_is_registered_and_no_other(tmp_path: Path, outside: None) -> None:
    config = configured(tmp_path, "tiny").config
    assert (config.provider.name, config.model, config.input_tokens) == ("tiny", "tiny-1", 4096)
    with pytest.raises(UsageError) as caught:
        configured(tmp_path, "tinny")
    assert caught.value.exit_code == 2
    assert "embedding.provider = tinny (env CODECHUNK_EMBEDDING__PROVIDER)" in str(caught.value)
    assert "did you mean tiny?" in str(caught.value)


def test_a_setting_that_names_a_broken_one_says_what_is_wrong_with_it(tmp_path: Path, package: Package) -> None:
    package("1 / 0")
    with pytest.raises(UsageError, match=r"other_provider 2\.1 cannot be used"):
        configured(tmp_path, "other")


def test_chunks_must_fit_the_model_of_the_provider_that_is_set(tmp_path: Path, outside: None) -> None:
    big = {"CODECHUNK_CHUNKING__MAX_TOKENS": "3000"}
    assert configured(tmp_path, "tiny", **big)
    with pytest.raises(UsageError, match="gemini-embedding-001 allows at most 1536"):
        configured(tmp_path, "gemini", **big)
    with pytest.raises(UsageError, match="gemini-embedding-001 allows at most 1536"):
        configured(tmp_path, "synthetic", **big)  # chunks as Gemini would get them


def test_the_key_is_looked_for_in_the_variables_of_the_provider_and_shown_nowhere(
    tmp_path: Path, outside: None
) -> None:
    loaded = configured(tmp_path, "tiny", TINY_API_KEY="tiny-key-of-mine")
    assert loaded.secret_values() == ["tiny-key-of-mine"]
    assert ("tiny_api_key", "set", "env TINY_API_KEY") in loaded.rows()
    assert ("pricing.tiny-1.batch", "1", "default (list price of 2026-01-01)") in loaded.rows()
    assert "tiny-key-of-mine" not in repr(loaded)
    with pytest.raises(UsageError, match="TINY_API_KEY has characters in it that no key has"):
        configured(tmp_path, "tiny", TINY_API_KEY="two words")


@pytest.mark.parametrize("variable", ["CODECHUNK_TINY", "CODECHUNK_TINY__PASSWORD", "CODECHUNK_DATA_DIRS"])
def test_a_key_variable_may_have_any_name(
    tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    package(
        "from codechunk.providers import Model, Provider\n"
        f"PROVIDER = Provider(name='other', title='Other', open=None, key_variables=({variable!r},), fixed_model='m',"
        " models={'m': Model(input_tokens=4096, dimensions=8)})\n"
    )
    loaded = configured(tmp_path, "other", **{variable: "tiny-key"})
    assert loaded.secret_values() == ["tiny-key"]
    monkeypatch.setenv(variable, "tiny-key")
    with codechunk.open(tmp_path / "data", config={"embedding.provider": "other"}) as cc:
        assert cc._app.workspace.has_key()
    with pytest.raises(UsageError, match="CODECHUNK_DATA_DIRZ"):
        configured(tmp_path, "other", CODECHUNK_DATA_DIRZ="x")


def test_to_know_the_providers_brings_in_neither_numpy_nor_an_sdk() -> None:
    script = (
        "import sys; from codechunk import providers; providers.get('gemini'); providers.is_free('gemini');"
        "print([name for name in ('numpy', 'google.genai', 'httpx2', 'importlib.metadata._itertools')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in {"[]", "['importlib.metadata._itertools']"}
