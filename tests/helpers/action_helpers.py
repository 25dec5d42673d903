"""What GitHub's runner does with a composite action, as far as action.yml needs it: steps, expressions, caches."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent


@dataclass
class Step:
    """What became of a step."""

    outcome: str
    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""


@dataclass
class Finished:
    """What became of the action: `steps` by name."""

    steps: dict[str, Step]
    outputs: dict[str, str]
    summary: str

    @property
    def log(self) -> str:
        """What all steps wrote."""
        return "\n".join(f"--- {name}: {step.outcome}\n{step.log}" for name, step in self.steps.items())

    @property
    def ok(self) -> bool:
        """Whether the job would be green."""
        return all(step.outcome in {"success", "skipped"} for step in self.steps.values())


class Expression:
    """The part of GitHub's expression language that the action uses, by way of Python's."""

    def __init__(self, contexts: Mapping[str, Any], *, ok: bool) -> None:
        self._contexts, self._ok = contexts, ok

    def value(self, text: str) -> Any:
        """`steps.a.outputs.b != 'x' && always()` -> its value; what is not there is the empty string."""
        python = re.sub(
            r"'[^']*'|[a-z][\w-]*(?:\.[\w-]+)+",
            lambda found: found[0] if found[0][0] == "'" else f"look_up({found[0]!r})",
            text,
        )
        python = " ".join(python.replace("&&", " and ").replace("||", " or ").split())
        return eval(python, {"__builtins__": {}}, {"look_up": self._look_up, "always": lambda: True})

    def _look_up(self, name: str) -> Any:
        place: Any = self._contexts
        for part in name.split("."):
            place = place.get(part, "") if isinstance(place, Mapping) else ""
        return place

    def fill(self, text: Any) -> str:
        """A text with its `${{ }}` replaced; a boolean is written as in YAML."""
        text = str(text).lower() if isinstance(text, bool) else str(text)
        return re.sub(r"\$\{\{(.*?)\}\}", lambda found: str(self.value(found[1])), text)

    def decide(self, condition: str) -> bool:
        """Whether a step runs."""
        if not condition:
            return self._ok
        return bool(self.value(condition)) and (self._ok or "always()" in condition)


class Runner:
    """Jobs that run the action, each on a machine with nothing on it but what the caches bring.

    Python's set-up and the installation, which need the network, are replaced by the environment of the tests.
    """

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.action = yaml.safe_load((ROOT / "action.yml").read_text())
        self.caches: dict[str, Path] = {}
        self._cache_folder, self._temp, self._home = root / "caches", root / "temp", root / "home"
        self._cache_folder.mkdir()
        self._environment, self._run_id = environment, 100
        self.before: dict[str, Callable[[], None]] = {}
        """Called before the step of that name."""

    @property
    def data(self) -> Path:
        """The data directory that the last job left."""
        return self._temp / "codechunk"

    def job(self, workspace: Path, **inputs: str | bool) -> Finished:
        """Run the action once; `dry_run=True` is the input `dry-run`."""
        shutil.rmtree(self._temp, ignore_errors=True)
        shutil.rmtree(self._home, ignore_errors=True)
        self._temp.mkdir()
        self._home.mkdir()
        self._run_id += 1
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        assert set(given) <= set(self.action["inputs"])
        values = {name: spec["default"] for name, spec in self.action["inputs"].items()} | given
        steps: dict[str, Step] = {}
        by_id: dict[str, dict[str, Any]] = {}
        contexts = {
            "inputs": {name: Expression({}, ok=True).fill(value) for name, value in values.items()},
            "steps": by_id,
            "runner": {"os": "Linux"},
            "github": {"run_id": str(self._run_id), "run_attempt": "1", "job": "index"},
        }
        for step in self.action["runs"]["steps"]:
            ok = all(done.outcome in {"success", "skipped"} for done in steps.values())
            expression = Expression(contexts, ok=ok)
            if not expression.decide(step.get("if", "")):
                done = Step("skipped")
            else:
                self.before.get(step["name"], lambda: None)()
                done = self._uses(step, expression) if "uses" in step else self._runs(step, expression, workspace)
            steps[step["name"]] = done
            by_id[step.get("id", "")] = {"outcome": done.outcome, "outputs": done.outputs}
        expression = Expression(contexts, ok=True)
        outputs = {name: expression.fill(spec["value"]) for name, spec in self.action["outputs"].items()}
        summary = self._temp / "summary"
        return Finished(steps, outputs, summary.read_text() if summary.exists() else "")

    def _runs(self, step: Mapping[str, Any], expression: Expression, workspace: Path) -> Step:
        if step.get("id") == "install":
            return Step("success", {"command": str(BIN / "codechunk")})
        assert step["shell"] == "bash"
        outputs = self._temp / "output"
        outputs.write_text("")
        github = {
            "HOME": str(self._home),
            "RUNNER_TEMP": str(self._temp),
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_OUTPUT": str(outputs),
            "GITHUB_STEP_SUMMARY": str(self._temp / "summary"),
        }
        own = {name: expression.fill(value) for name, value in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=workspace,
            env={**os.environ, **self._environment, **github, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=120,
        )
        pairs = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        return Step("failure" if done.returncode else "success", pairs, done.stdout)

    def _uses(self, step: Mapping[str, Any], expression: Expression) -> Step:
        arguments = {name: expression.fill(value) for name, value in step["with"].items()}
        name = step["uses"].partition("@")[0]
        if name == "actions/setup-python":
            return Step("success", {"python-path": sys.executable})
        path = Path(arguments["path"])
        if name == "actions/cache/restore":
            return self._restore(path, arguments["key"], arguments["restore-keys"])
        assert name == "actions/cache/save"
        assert arguments["key"] not in self.caches, "a cache is never written again"
        if path.exists():
            self.caches[arguments["key"]] = self._cache_folder / arguments["key"]
            self._copy(path, self.caches[arguments["key"]])
        return Step("success")

    def _restore(self, path: Path, key: str, prefix: str) -> Step:
        """The newest cache whose key begins like this; dictionaries keep the order of writing."""
        found = [name for name in self.caches if name == key or name.startswith(prefix)]
        if found:
            self._copy(self.caches[found[-1]], path)
        return Step("success", {"cache-matched-key": found[-1] if found else ""})

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target)
