"""Configuration through its one door, `load_config`: precedence, origins, and its sentences."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from codechunk import providers
from codechunk.config.load import Config, Loaded, load_config
from codechunk.errors import UsageError

GEMINI = providers.get("gemini")
ROOT = Path(__file__).parent.parent.parent
KEY = "AIzaSyCanary-0123456789abcdefghij"


def load(
    tmp_path: Path,
    yaml: str | None = None,
    *,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Loaded:
    file = None
    if yaml is not None:
        file = Path("my.yaml")
        (tmp_path / file).write_text(yaml, encoding="utf-8")
    return load_config(config_file=file, flags=flags or {}, environ=env or {}, cwd=tmp_path)


def refusal(tmp_path: Path, yaml: str | None = None, **kwargs: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, yaml, **kwargs)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_without_anything_every_value_is_the_default_of_the_design(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    rows = {key: value for key, value, _ in loaded.rows()}
    assert rows["git.timeout"] == "10m"
    assert rows["git.max_file_size"] == "1MiB"
    assert rows["git.include"] == "[]"
    assert rows["embedding.model"] == "gemini-embedding-001"
    assert rows["embedding.timeout"] == "2m"
    assert rows["batch_processing.threshold_chunks"] == "50"
    assert rows["batch_processing.max_batch_size"] == "500"
    assert rows["batch_processing.max_batch_tokens"] == "null"
    assert rows["batch_processing.max_job_age"] == "48h"
    assert rows["batch_processing.queue_limits.max_wait_time"] == "30m"
    assert rows["token_counting.sample_percent"] == "10"
    assert rows["pricing.gemini-embedding-001.batch"] == "0.075"
    assert rows["pricing.gemini-embedding-2.direct"] == "0.2"
    assert set(loaded.origins.values()) == {"default"}


def test_a_config_made_directly_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT", "{}")
    monkeypatch.setenv("data_dir", "/elsewhere")
    monkeypatch.setenv("CODECHUNK_WORKER__INTERVAL", "1s")
    assert Config().worker.interval == timedelta(seconds=60)
    assert Config().data_dir != Path("/elsewhere")


def test_each_layer_overrides_the_one_below_and_says_so(tmp_path: Path) -> None:
    yaml = "git:\n  timeout: 1m\n  max_file_size: 500kB\nlog: {level: debug}\nworker:\n  interval: 9s\n"
    env = {"CODECHUNK_GIT__TIMEOUT": "2m", "CODECHUNK_LOG__LEVEL": "error", "UNRELATED": "1"}
    loaded = load(tmp_path, yaml, env=env, flags={"log.level": "warning", "git.exclude": ["*.md"]})
    config, origins = loaded.config, loaded.origins
    assert (config.worker.interval, origins["worker.interval"]) == (timedelta(seconds=9), "my.yaml:6")
    assert (config.git.max_file_size, origins["git.max_file_size"]) == (500_000, "my.yaml:3")
    assert (config.git.timeout, origins["git.timeout"]) == (
        timedelta(minutes=2),
        "env CODECHUNK_GIT__TIMEOUT",
    )
    assert (config.log.level, origins["log.level"]) == ("warning", "flag -v or -q")
    assert (config.git.exclude, origins["git.exclude"]) == (("*.md",), "flag --exclude")
    assert origins["git.include"] == "default"


def test_flags_that_were_not_given_override_nothing(tmp_path: Path) -> None:
    flags = {"token_counting.mode": None, "git.include": []}
    loaded = load(tmp_path, "token_counting: {mode: sample}\ngit: {include: ['*.py']}\n", flags=flags)
    assert loaded.config.token_counting.mode == "sample"
    assert loaded.config.git.include == ("*.py",)


def test_the_file_is_the_flag_else_the_variable_else_the_one_in_the_current_folder(tmp_path: Path) -> None:
    for name, interval in (("codechunk.yaml", "1s"), ("two.yaml", "2s"), ("three.yaml", "3s")):
        (tmp_path / name).write_text(f"worker: {{interval: {interval}}}\n")
    env = {"CODECHUNK_CONFIG": "two.yaml"}

    def interval_of(file: Path | None, environ: dict[str, str]) -> float:
        loaded = load_config(config_file=file, flags={}, environ=environ, cwd=tmp_path)
        return loaded.config.worker.interval.total_seconds()

    assert interval_of(None, {}) == 1
    assert interval_of(None, env) == 2
    assert interval_of(tmp_path / "three.yaml", env) == 3


@pytest.mark.parametrize("name", ["dev.yaml", "prod.yaml"])
def test_the_shipped_files_are_valid_and_name_every_key(name: str, tmp_path: Path) -> None:
    loaded = load_config(config_file=ROOT / "configs" / name, flags={}, environ={}, cwd=tmp_path)
    assert [key for key, origin in loaded.origins.items() if origin == "default"] == []
    assert loaded.config.provider.free is (name == "dev.yaml")


def test_the_production_file_says_what_the_defaults_are_but_for_the_log(tmp_path: Path) -> None:
    loaded = load_config(config_file=ROOT / "configs/prod.yaml", flags={}, environ={}, cwd=tmp_path)
    assert loaded.config.model_dump(exclude={"log"}) == Config().model_dump(exclude={"log"})


@pytest.mark.parametrize(
    ("yaml", "parts"),
    [
        ("git: {timout: 5m}", ["git.timout = 5m", "my.yaml:1", "did you mean git.timeout?"]),
        ("\nmax_batch_size: 5", ["my.yaml:2", "did you mean batch_processing.max_batch_size?"]),
        ("batch_procesing: {enabled: true}", ["batch_procesing", "did you mean batch_processing?"]),
        ("zzz: 1", ["Unknown setting zzz = 1", "codechunk config show"]),
        ("git: {timeout: 5}", ["git.timeout = 5 (my.yaml:1)", "unit"]),
        ("git: {timeout: 5 parsecs}", ["5 parsecs", "like 30s"]),
        ("git: {timeout: 0s}", ["git.timeout = 0s", "longer than nothing"]),
        ("git: {timeout: 99999999d}", ["at most one year"]),
        ("git: {max_file_size: 1XB}", ["git.max_file_size = 1XB", "like 500kB"]),
        ("git: {include: '*.py'}", ["git.include = *.py", "a list is needed"]),
        ("git: {include: [1]}", ["git.include = [1]", "valid string"]),
        ("git: 5", ["git (my.yaml:1)", "section"]),
        ("- a", ["The configuration (my.yaml:1)", "section"]),
        ("git:\n  timeout: 1m\n  timeout: 2m", ["git.timeout (my.yaml:3)", "twice"]),
        ("batch_processing:\n  max_retries: many", ["max_retries = many (my.yaml:2)", "valid integer"]),
        ("batch_processing: {max_retries: yes}", ["max_retries = true", "number"]),
        ("batch_processing: {threshold_chunks: 0}", ["threshold_chunks = 0", "greater than or equal to 1"]),
        ("token_counting: {mode: some}", ["token_counting.mode = some", "'all', 'sample' or 'on_demand'"]),
        ("token_counting: {sample_percent: 101}", ["sample_percent = 101", "less than or equal to 100"]),
        ("embedding: {dimensions: 64}", ["embedding.dimensions = 64", "128"]),
        ("embedding: {dimensions: 4096}", ["embedding.dimensions = 4096", "3072"]),
        ("embedding: {direct_batch: 101}", ["embedding.direct_batch = 101", "100"]),
        ("embedding: {provider: vertex}", ["embedding.provider = vertex", "Gemini Developer API"]),
        ("embedding: {model: gemini-embedding-9}", ["gemini-embedding-9", "max_tokens_per_chunk"]),
        ("embedding: {base_url: localhost}", ["embedding.base_url = localhost", "http://"]),
        ("vectors: {backend: faiss}", ["vectors.backend = faiss", "chroma, exact", "did you mean"]),
        ("vectors: {url: 'localhost:8000'}", ["vectors.url = localhost:8000", "http://"]),
        ("vectors: {url: 'http://h:99999'}", ["vectors.url", "http://"]),
        ("vectors: {url: 'http://h/x'}", ["vectors.url", "nothing after it"]),
        ("state: {url: 'mysql://h/d'}", ["state.url = mysql://h/d", "postgresql://"]),
        ("log: {format: xml}", ["log.format = xml", "'text' or 'json'"]),
        ("chunking: {min_tokens: 512}", ["chunking.min_tokens = 512", "less than chunking.max_tokens (512)"]),
        ("chunking: {max_tokens: 40}", ["chunking.min_tokens = 48 (default)", "chunking.max_tokens (40)"]),
        ("chunking: {max_tokens: 1537}", ["chunking.max_tokens = 1537", "at most 1536", "2048"]),
        ("token_counting: {max_tokens_per_chunk: 4000}", ["max_tokens_per_chunk = 4000", "2048"]),
        ("batch_processing: {max_batch_tokens: 100}", ["max_batch_tokens = 100", "(512)"]),
        ("batch_processing: {max_backoff: 1s}", ["max_backoff = 1s", "initial_backoff (30s)"]),
        ("batch_processing: {submission_max_backoff: 1s}", ["submission_initial_backoff (1m)"]),
        ("worker: {min_queue_size: 20000}", ["worker.min_queue_size = 20000", "(10000)"]),
        ("pricing: {gemini-embedding-001: {direct: free}}", ["pricing.gemini-embedding-001.direct = free"]),
        (
            "pricing: {gemini-embedding-001: {directly: 1}}",
            ["pricing.gemini-embedding-001.directly", "'direct'"],
        ),
        ("pricing: {m: {batch: -1}}", ["pricing.m.batch = -1 (my.yaml:1)"]),
        ("data_dir: 7", ["data_dir = 7", "path of a folder"]),
        ("git: {timeout: [", ["my.yaml:1", "not valid YAML"]),
        ("\x00", ["my.yaml", "not YAML text"]),
        ("git: " + "[" * 3000, ["my.yaml", "nested too deeply"]),
        ("pricing: &a {m: *a}", ["recursive", "my.yaml:1"]),
        ("git: {include: &a [*a]}", ["recursive", "my.yaml:1"]),
        ("git: {x: [&a [1, 1], &b [*a, *a], *b]}", ["git.x = {...}"]),
        ('log: {level: "a\\n\\e[2J"}', ['log.level = "a\\n\\u001b[2J"']),
        ('"a\\n\\e[2J": 1', ["a\\n\\u001b[2J"]),
        ("git: &a\n  timeout: *b", ["my.yaml:2", "undefined alias"]),
    ],
)
def test_a_wrong_file_is_refused_with_key_value_place_and_reason(yaml: str, parts: list[str], tmp_path: Path) -> None:
    sentence = refusal(tmp_path, yaml)
    for part in parts:
        assert part in sentence
    assert "\n" not in sentence


def test_a_batch_size_of_1000_is_an_error_that_says_why(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, "batch_processing:\n  max_batch_size: 1000\n")
    assert "batch_processing.max_batch_size = 1000 (my.yaml:2)" in sentence
    assert "at most 500 chunks" in sentence
    assert "several jobs" in sentence
    assert "501" in refusal(tmp_path, env={"CODECHUNK_BATCH_PROCESSING__MAX_BATCH_SIZE": "501"})


def test_all_wrong_values_are_named_at_once(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, "log: {level: loud}\n", env={"CODECHUNK_WORKER__INTERVAL": "soon"})
    assert [line.split(" = ")[0] for line in sentence.splitlines()] == ["worker.interval", "log.level"]


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("CODECHUNK_GIT__TIMOUT", "5m", ["env CODECHUNK_GIT__TIMOUT", "git.timeout"]),
        ("CODECHUNK_NOTHING__LIKE_IT", "5", ["Unknown setting nothing.like_it = 5"]),
        ("CODECHUNK_GIT_TIMEOUT", "5m", ["env CODECHUNK_GIT_TIMEOUT", "git.timeout"]),
        ("CODECHUNK_DATADIR", "/x", ["did you mean data_dir?"]),
        ("CODECHUNK_LOG", "debug", ["env CODECHUNK_LOG"]),
        ("CODECHUNK_LOG__LEVEL", "loud", ["log.level = loud (env CODECHUNK_LOG__LEVEL)", "'debug'"]),
        ("CODECHUNK_BATCH_PROCESSING__MAX_RETRIES", "3.5", ["max_retries = 3.5"]),
        ("CODECHUNK_PRICING", "cheap", ["env CODECHUNK_PRICING", "JSON"]),
        ("CODECHUNK_PRICING", "[1]", ["env CODECHUNK_PRICING", "JSON"]),
        ("CODECHUNK_CONFIG", "absent.yaml", ["absent.yaml", "No such file"]),
    ],
)
def test_a_wrong_variable_is_refused_with_its_name(name: str, value: str, parts: list[str], tmp_path: Path) -> None:
    sentence = refusal(tmp_path, env={name: value})
    for part in parts:
        assert part in sentence


def test_variables_of_other_programs_and_empty_ones_are_left_alone(tmp_path: Path) -> None:
    env = {
        "CODECHUNK_PORT": "tcp://10.0.0.1:80",
        "CODECHUNK_SERVICE_HOST": "10.0.0.1",
        "CODECHUNK_VENV": "/v",
    }
    loaded = load(tmp_path, env=env | {"CODECHUNK_GIT__TIMEOUT": "", "CODECHUNK_CRASH": "after_upload"})
    assert set(loaded.origins.values()) == {"default"}


def test_variables_can_hold_lists_nulls_booleans_prices_and_top_level_keys(tmp_path: Path) -> None:
    env = {
        "CODECHUNK_GIT__INCLUDE": "[ab]*.py, src/**",
        "CODECHUNK_GIT__EXCLUDE": '["a,b"]',
        "CODECHUNK_VECTORS__URL": "null",
        "CODECHUNK_BATCH_PROCESSING__USE_TEST_EMBEDDINGS": "true",
        "CODECHUNK_BATCH_PROCESSING__QUEUE_LIMITS__MAX_QUEUE_SIZE": "200",
        "CODECHUNK_PRICING": '{"gemini-embedding-001": {"batch": 0.05}}',
        "CODECHUNK_DATA_DIR": "here",
    }
    loaded = load(tmp_path, "vectors: {url: 'http://localhost:8000'}", env=env)
    config = loaded.config
    assert config.git.include == ("[ab]*.py", "src/**")
    assert config.git.exclude == ("a,b",)
    assert config.vectors.url is None
    assert config.provider.free
    assert config.batch_processing.queue_limits.max_queue_size == 200
    assert config.data_dir == Path("here").absolute()
    prices = {key: (value, origin) for key, value, origin in loaded.rows() if key.startswith("pricing.")}
    assert prices["pricing.gemini-embedding-001.batch"] == ("0.05", "env CODECHUNK_PRICING")
    assert prices["pricing.gemini-embedding-001.direct"][1].startswith("default (list price of 2026-")


def test_the_key_comes_from_the_first_variable_that_is_set(tmp_path: Path) -> None:
    names = ["CODECHUNK_GEMINI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"]
    env = {name: f"key-of-{name}" for name in names}
    for name in names:
        secret = load(tmp_path, env=env).api_key(GEMINI)
        assert secret.found_in == name
        assert secret.value is not None
        assert secret.value.get_secret_value() == f"key-of-{name}"
        env[name] = " "
    assert load(tmp_path, env=env).api_key(GEMINI).value is None


def test_a_secret_is_shown_as_set_and_never_by_value(tmp_path: Path) -> None:
    loaded = load(tmp_path, env={"GOOGLE_API_KEY": KEY})
    rows = {key: (value, origin) for key, value, origin in loaded.rows()}
    assert rows["gemini_api_key"] == ("set", "env GOOGLE_API_KEY")
    assert rows["git_token"] == ("not set", "env CODECHUNK_GIT_TOKEN")
    assert loaded.secret_values() == [KEY]
    assert KEY not in repr(loaded) + str(loaded.rows())


@pytest.mark.parametrize(
    ("yaml", "env", "names"),
    [
        (f"gemini_api_key: {KEY}", {}, ["CODECHUNK_GEMINI_API_KEY", "my.yaml:1"]),
        ("embedding:\n  api_key: plain-secret", {}, ["CODECHUNK_GEMINI_API_KEY", "my.yaml:2"]),
        ("git: {token: plain-secret}", {}, ["CODECHUNK_GIT_TOKEN"]),
        (None, {"CODECHUNK_EMBEDDING__API_KEY": "plain-secret"}, ["CODECHUNK_GEMINI_API_KEY"]),
        ("state: {url: 'postgresql://u:plain-secret@h/d'}", {}, ["CODECHUNK_STATE__URL"]),
        ("vectors: {url: 'http://u:plain-secret@h'}", {}, ["user name or password"]),
        (f"git: {{timeout: {KEY}}}", {}, ["git.timeout"]),
        (None, {"GEMINI_API_KEY": "plain-secret\nX-Header: 1"}, ["GEMINI_API_KEY", "one line"]),
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_without_being_repeated(
    yaml: str | None, env: dict[str, str], names: list[str], tmp_path: Path
) -> None:
    sentence = refusal(tmp_path, yaml, env=env)
    for name in names:
        assert name in sentence
    assert "plain-secret" not in sentence
    assert KEY not in sentence


def test_a_database_password_may_come_from_the_environment_and_is_not_shown(tmp_path: Path) -> None:
    url = "postgresql://user:plain-secret@db/codechunk"
    loaded = load(tmp_path, env={"CODECHUNK_STATE__URL": url})
    assert loaded.config.state.url == url
    assert "plain-secret" not in str(loaded.rows())


def test_a_file_that_merely_lies_there_cannot_redirect_the_key(tmp_path: Path) -> None:
    yaml = "embedding: {base_url: 'https://elsewhere.example'}\n"
    assert load(tmp_path, yaml).config.embedding.base_url == "https://elsewhere.example"
    (tmp_path / "codechunk.yaml").write_text(yaml)
    assert "--config codechunk.yaml" in refusal(tmp_path)
    (tmp_path / "codechunk.yaml").write_text("embedding: {base_url: 'http://127.0.0.1:9000/'}\n")
    assert load(tmp_path).config.embedding.base_url == "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800)],
)
def test_durations_are_read_with_their_unit(text: str, seconds: float, tmp_path: Path) -> None:
    assert load(tmp_path, f"git: {{timeout: {text}}}").config.git.timeout.total_seconds() == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("1MiB", 2**20), ("500kB", 500_000), ("4096", 4096), ("1.5 KiB", 1536), ("10 b", 10)]
)
def test_sizes_are_read_with_their_unit(text: str, size: int, tmp_path: Path) -> None:
    assert load(tmp_path, f"git: {{max_file_size: {text}}}").config.git.max_file_size == size


def test_the_data_directory_follows_xdg_and_the_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert load(tmp_path).config.data_dir == tmp_path / "xdg" / "codechunk"
    assert load(tmp_path, "data_dir: ~/chunks\n").config.data_dir == tmp_path / "chunks"


def test_the_larger_model_allows_larger_chunks(tmp_path: Path) -> None:
    yaml = "embedding: {model: gemini-embedding-2}\nchunking: {max_tokens: 6144}\n"
    assert load(tmp_path, yaml).config.input_tokens == 8192


def test_a_model_nobody_knows_is_usable_when_its_limit_is_given(tmp_path: Path) -> None:
    yaml = "embedding: {model: my-model}\ntoken_counting: {max_tokens_per_chunk: 1000}\n"
    assert load(tmp_path, yaml).config.input_tokens == 1000


def test_an_empty_file_and_an_empty_section_mean_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "").config == load(tmp_path, "git:\n").config == load(tmp_path).config


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    yaml = "batch_processing: &b {max_retries: 2}\n"
    assert load(tmp_path, yaml).config.batch_processing.max_retries == 2
    merged = "chunking:\n  <<: {max_tokens: 400}\n  min_tokens: 20\n"
    assert load(tmp_path, merged).config.chunking.max_tokens == 400


def test_a_flag_for_a_key_that_does_not_exist_is_a_bug_and_not_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=re.escape("git.nonsense")):
        load(tmp_path, flags={"git.nonsense": 1})


def test_a_folder_in_place_of_the_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(config_file=tmp_path, flags={}, environ={}, cwd=tmp_path)
