#!/usr/bin/env python3
"""Write codechunk/selection/secret_rules.py: the tokens that a provider marks with a prefix.

    scripts/make_secret_rules.py RULES --release RELEASE [--date DATE] [--out FILE]

RULES is gitleaks' rule file (config/gitleaks.toml of its repository): a path, or an https:// address. RELEASE says
which one it is (a tag or commit), DATE when it was read.

gitleaks' expressions are not taken as they are. Lengths are exact there, so next year's longer token is missed, and
many look for a provider's name first, which takes a scan of the file for each. CHOICES holds our expressions, each with
the rules of gitleaks that it stands for. This script makes strings that those rules find, demands that ours find them
whole, and names the rules with a prefix that nobody stands for: decide about each of them when it is new.

When what is found changes, raise PATTERNS_VERSION in codechunk/selection/secrets.py: files are then cut again.
"""

import argparse
import hashlib
import random
import re
import sys
import tomllib
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "codechunk" / "selection" / "secret_rules.py"
SAMPLES = 40
# A rule's "at least" becomes this many letters in a sample; real tokens are longer than the least that a rule asks for.
USUAL_LENGTH = 40


@dataclass(frozen=True)
class Choice:
    """One row: what begins with `begins` and goes on as `rest` is of this kind; `rules` are those of gitleaks.

    `partly` names those that find more than ours: letters that no token of the provider has, or words without a digit.
    """

    kind: str
    begins: str
    rest: str
    rules: tuple[str, ...] = ()
    partly: tuple[str, ...] = ()


CHOICES = (
    Choice(
        "aws-access-key", r"A3T[A-Z0-9]|A(?:KIA|SIA|BIA|CCA)", r"[A-Z0-9]{16}(?![A-Za-z0-9+/=])", ("aws-access-token",)
    ),
    Choice("aws-bedrock-key", r"ABSK", r"[A-Za-z0-9+/]{100,270}={0,2}", ("aws-amazon-bedrock-api-key-long-lived",)),
    Choice(
        "github-token",
        r"gh[pousr]_",
        r"[A-Za-z0-9_]{36,255}",
        ("github-pat", "github-oauth", "github-app-token", "github-refresh-token"),
    ),
    Choice("github-token", r"github_pat_", r"\w{40,255}", ("github-fine-grained-pat",)),
    Choice(
        "gitlab-token",
        r"gl(?:pat|dt|ft|soat|rt|cbt|ptt|imt|oas|agent|ffct)-",
        r"[\w.-]{20,300}",
        (
            "gitlab-pat",
            "gitlab-pat-routable",
            "gitlab-deploy-token",
            "gitlab-feed-token",
            "gitlab-scim-token",
            "gitlab-runner-authentication-token",
            "gitlab-runner-authentication-token-routable",
            "gitlab-cicd-job-token",
            "gitlab-ptt",
            "gitlab-oauth-app-secret",
            "gitlab-kubernetes-agent-token",
            "gitlab-feature-flag-client-token",
        ),
    ),
    Choice("gitlab-token", r"GR1348941", r"[\w-]{20,}", ("gitlab-rrt",)),
    Choice("google-api-key", r"AIza", r"[\w-]{35}(?![\w-])", ("gcp-api-key",)),
    Choice("google-oauth-secret", r"GOCSPX-", r"[\w-]{20,}"),
    Choice("google-oauth-token", r"ya29\.", r"[\w-]{20,}"),
    Choice("google-oauth-token", r"1//0", r"[\w-]{40,}"),
    Choice(
        "slack-token",
        r"xox[abeoprs][.-]",
        r"(?=[\w.-]{0,16}\d)[\w.-]{10,}",
        (
            "slack-bot-token",
            "slack-user-token",
            "slack-legacy-bot-token",
            "slack-legacy-token",
            "slack-legacy-workspace-token",
            "slack-config-access-token",
            "slack-config-refresh-token",
        ),
        partly=(
            "slack-config-access-token",
            "slack-legacy-workspace-token",
        ),
    ),
    Choice("slack-token", r"xapp-\d-", r"[A-Za-z0-9-]{20,}", ("slack-app-token",)),
    Choice(
        "stripe-key", r"sk_(?:live|test|prod)_|rk_(?:live|test|prod)_", r"[A-Za-z0-9]{16,}", ("stripe-access-token",)
    ),
    Choice("stripe-key", r"whsec_", r"[A-Za-z0-9+/]{32,}"),
    Choice("anthropic-key", r"sk-ant-", r"[\w-]{24,}", ("anthropic-admin-api-key", "anthropic-api-key")),
    Choice("openai-key", r"sk-(?:proj|svcacct|admin|None|or-v1)-", r"[\w-]{20,}", ("openai-api-key",)),
    Choice(
        "openai-key",
        r"sk-",
        r"(?=[A-Za-z]{0,30}\d)[A-Za-z0-9]{32,}(?![\w-])",
        ("openai-api-key",),
        partly=("openai-api-key",),
    ),
    Choice("npm-token", r"npm_", r"[A-Za-z0-9]{36}(?!\w)", ("npm-access-token",)),
    Choice("pypi-token", r"pypi-", r"[\w-]{50,}", ("pypi-upload-token",)),
    Choice("sendgrid-key", r"SG\.", r"[\w-]{16,32}\.[\w-]{16,64}", ("sendgrid-api-token",), ("sendgrid-api-token",)),
    Choice("twilio-key", r"SK", r"[0-9a-f]{32}(?!\w)", ("twilio-api-key",), partly=("twilio-api-key",)),
    Choice("mailgun-key", r"key-", r"[0-9a-f]{32}(?!\w)", ("mailgun-private-api-token",)),
    Choice(
        "huggingface-token",
        r"hf_|api_org_",
        r"[A-Za-z0-9]{34,}",
        ("huggingface-access-token", "huggingface-organization-api-token"),
    ),
    Choice(
        "digitalocean-token",
        r"do[opr]_v1_",
        r"[0-9a-f]{64}",
        ("digitalocean-access-token", "digitalocean-pat", "digitalocean-refresh-token"),
    ),
    Choice(
        "shopify-token",
        r"shp(?:at|ca|pa|ss)_",
        r"[0-9a-fA-F]{32}",
        (
            "shopify-access-token",
            "shopify-custom-access-token",
            "shopify-private-app-access-token",
            "shopify-shared-secret",
        ),
    ),
    Choice("vault-token", r"hv[sbr]\.", r"[\w-]{20,}", ("vault-batch-token", "vault-service-token")),
    Choice(
        "grafana-token",
        r"glsa_|glc_",
        r"[A-Za-z0-9+/_]{32,}={0,2}",
        ("grafana-cloud-api-token", "grafana-service-account-token"),
        partly=("grafana-cloud-api-token",),
    ),
    Choice("databricks-token", r"dapi", r"[0-9a-f]{32}(?:-\d)?(?!\w)", ("databricks-api-token",)),
    Choice("rubygems-token", r"rubygems_", r"[0-9a-f]{48}", ("rubygems-api-token",)),
    Choice("docker-token", r"dckr_(?:pat|oat)_", r"[\w-]{24,}"),
    Choice(
        "atlassian-token", r"ATATT3|ATCTT3", r"[\w=-]{60,}", ("atlassian-api-token",), partly=("atlassian-api-token",)
    ),
    Choice("postman-key", r"PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}", ("postman-api-token",)),
    Choice("linear-key", r"lin_api_", r"[A-Za-z0-9]{40}", ("linear-api-key",)),
    Choice("notion-token", r"ntn_", r"[A-Za-z0-9]{40,}", ("notion-api-token",)),
    Choice("newrelic-key", r"NRAK-", r"[A-Z0-9]{27}", ("new-relic-user-api-key",), partly=("new-relic-user-api-key",)),
    Choice("pulumi-token", r"pul-", r"[0-9a-f]{40}", ("pulumi-api-token",)),
    Choice(
        "planetscale-token",
        r"pscale_(?:tkn|oauth|pw)_",
        r"[\w=.-]{32,64}",
        ("planetscale-api-token", "planetscale-oauth-token", "planetscale-password"),
    ),
    Choice("doppler-token", r"dp\.(?:pt|st|ct|sa)\.", r"[\w.-]{40,}", ("doppler-api-token",)),
    Choice("airtable-token", r"pat", r"[A-Za-z0-9]{14}\.[0-9a-f]{64}", ("airtable-personnal-access-token",)),
    Choice("sentry-token", r"sntry[us]_", r"[\w+/=]{40,}", ("sentry-org-token", "sentry-user-token")),
    Choice("square-token", r"sq0(?:atp|csp)-", r"[\w-]{22,60}", ("square-access-token",)),
    Choice("facebook-token", r"EAA[A-Z]", r"[A-Za-z0-9]{90,}(?![A-Za-z0-9+/=])", ("facebook-page-access-token",)),
    Choice("alibaba-key", r"LTAI", r"[A-Za-z0-9]{17,20}(?!\w)", ("alibaba-access-key-id",)),
    Choice("flyio-token", r"fo1_|fm[12][ar]?_", r"[\w+/=,-]{43,}", ("flyio-access-token",)),
    Choice("perplexity-key", r"pplx-", r"[A-Za-z0-9]{40,}", ("perplexity-api-key",)),
    Choice("groq-key", r"gsk_", r"[A-Za-z0-9]{50,}"),
    Choice("xai-key", r"xai-", r"[A-Za-z0-9]{70,}"),
    Choice("replicate-token", r"r8_", r"[A-Za-z0-9]{37,}"),
    Choice("supabase-token", r"sbp_|sb_secret_", r"[\w-]{30,}"),
    Choice("figma-token", r"figd_", r"[\w-]{38,}"),
    Choice("netlify-token", r"nfp_", r"[A-Za-z0-9]{36,}"),
    Choice(
        "artifactory-token",
        r"AKCp|cmVmd",
        r"[A-Za-z0-9]{59,73}(?!\w)",
        ("artifactory-api-key", "artifactory-reference-token"),
    ),
    Choice(
        "onepassword-token",
        r"ops_eyJ",
        r"[A-Za-z0-9+/]{100,}={0,3}",
        ("1password-service-account-token",),
    ),
    Choice("age-key", r"AGE-SECRET-KEY-1", r"[0-9A-Z]{58}", ("age-secret-key",)),
    Choice("jwt", r"eyJ", r"[\w-]{14,}\.eyJ?[\w-]{10,}\.[\w-]{8,}", ("jwt",), ("jwt",)),
)

# Found by other parts of secrets.py: by their context, their middle, or what stands around them.
ELSEWHERE = {
    "curl-auth-header", "curl-auth-user", "generic-api-key", "hashicorp-tf-api-token", "jwt-base64", "private-key",
    "slack-webhook-url",
}  # fmt: skip


def read(place: str) -> bytes:
    """The rule file from a path or an address."""
    if place.startswith("https://"):
        with urllib.request.urlopen(place, timeout=60) as reply:
            return bytes(reply.read())
    return Path(place).read_bytes()


def translated(expression: str) -> str:
    """A Go expression as a Python one: flags in the middle hold from there on, which a scoped group says as well."""
    expression = expression.replace("[[:alnum:]]", "[A-Za-z0-9]").replace(r"\z", r"\Z")
    head, flag, tail = expression.partition("(?i)")
    if not flag:
        return expression
    # Up to the end of the group that the flag stands in.
    depth = 0
    for at, letter in enumerate(tail):
        if letter == "\\" or (at and tail[at - 1] == "\\"):
            continue
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return f"{head}(?i:{tail[:at]}){tail[at:].replace('(?i)', '')}"
    return f"{head}(?i:{tail.replace('(?i)', '')})"


def sample(expression: str, chance: random.Random) -> str:
    """A string that an expression finds: of its first group where it has one, the secret itself."""
    groups: dict[int, str] = {}
    whole = _of_all(sre_parser.parse(translated(expression)), chance, groups)
    return groups.get(1, whole)


def _of_all(parsed: Iterable[tuple[Any, Any]], chance: random.Random, groups: dict[int, str]) -> str:
    return "".join(_of(operation, value, chance, groups) for operation, value in parsed)


def _of(operation: Any, value: Any, chance: random.Random, groups: dict[int, str]) -> str:
    match operation:
        case sre.LITERAL:
            return chr(value)
        case sre.IN:
            return chance.choice(_letters(value))
        case sre.ANY:
            return "."  # what is meant where gitleaks forgot to escape it
        case sre.MAX_REPEAT | sre.MIN_REPEAT:
            least, most, inner = value
            times = min(int(most), max(least, USUAL_LENGTH if most > 1 else least))
            return "".join(_of_all(inner, chance, groups) for _ in range(times))
        case sre.BRANCH:
            return _of_all(chance.choice(value[1]), chance, groups)
        case sre.SUBPATTERN:
            number, _, _, inner = value
            text = _of_all(inner, chance, groups)
            if number is not None:
                groups[number] = text
            return text
        case sre.AT | sre.ASSERT | sre.ASSERT_NOT:
            return ""
    raise SystemExit(f"make_secret_rules: {operation} in an expression of gitleaks; teach `sample` what it is.")


def _letters(items: Iterable[tuple[Any, Any]]) -> list[str]:
    found: list[str] = []
    for operation, value in items:
        match operation:
            case sre.LITERAL:
                found.append(chr(value))
            case sre.RANGE:
                found += map(chr, range(value[0], value[1] + 1))
            case sre.CATEGORY:
                found += {sre.CATEGORY_DIGIT: "0123456789", sre.CATEGORY_SPACE: " "}.get(value, "abcXYZ0123456789")
            case sre.NEGATE:
                return list("abcdefgh0123")
    return found


def prefix(expression: str) -> str:
    """The letters that everything begins with that an expression finds, "" when there are none."""
    text = re.sub(r"^(?:\\b|\(\?i\)|\(\?:|\()*", "", expression)
    return re.match(r"(?:[A-Za-z0-9_-]|\\\.)*", text)[0].replace("\\", "")  # type: ignore[index]


def missed(choices: Iterable[Choice], rules: Mapping[str, str]) -> list[str]:
    """What is wrong, as sentences: rules that are gone, and samples of rules that ours do not find whole."""
    wrong = []
    for choice in choices:
        ours = re.compile(f"(?:{choice.begins})(?:{choice.rest})", re.ASCII)
        for name in choice.rules:
            if name not in rules:
                wrong.append(f"{choice.kind}: gitleaks has no rule {name} any more")
                continue
            chance = random.Random(name)
            samples = [sample(rules[name], chance) for _ in range(SAMPLES)]
            tokens = [text for text in samples if re.match(f"(?:{choice.begins})", text)]
            lost = [text for text in tokens if ours.fullmatch(text) is None]
            if name not in choice.partly and (lost or not tokens):
                wrong.append(f"{choice.kind}: {name} finds {(lost or samples)[0]!r}, {ours.pattern} does not")
    return wrong


def not_taken(choices: Iterable[Choice], rules: Mapping[str, str]) -> dict[str, str]:
    """The rules with a prefix of three letters or more that no choice stands for: name and prefix."""
    taken = ELSEWHERE.union(*(choice.rules for choice in choices))
    found = {name: prefix(expression) for name, expression in rules.items() if name not in taken}
    return {name: begins for name, begins in sorted(found.items()) if len(begins) >= 3}


def rendered(choices: Iterable[Choice], left: Mapping[str, str], *, data: bytes, release: str, date: str) -> str:
    """The module, formatted as `ruff format` has it."""
    rows = []
    for choice in choices:
        names = [f"{name} (partly)" if name in choice.partly else name for name in choice.rules]
        rows.append(f"    # {', '.join(names) or 'not in gitleaks'}")
        rows.append(f'    ("{choice.kind}", r"{choice.begins}", r"{choice.rest}"),')
    names = [f"#   {name}: {begins}" for name, begins in left.items()]
    licence = "\n".join(f"# {line}".rstrip() for line in LICENCE.splitlines())
    return (
        '"""Tokens that a provider marks with a prefix. Written by scripts/make_secret_rules.py: edit that one."""\n'
        "\n"
        f"# Held against the rules of gitleaks {release} on {date}\n"
        f"# (config/gitleaks.toml, sha256 {hashlib.sha256(data).hexdigest()}).\n"
        "# Kinds and prefixes follow those rules. gitleaks' licence:\n"
        "#\n"
        f"{licence}\n"
        "# ruff: noqa: E501\n"
        "\n"
        "from collections.abc import Sequence\n"
        "\n"
        "# Kind, what it begins with (alternatives that each start with a letter or digit), the rest.\n"
        "# Above each: the rules of gitleaks that it stands for.\n"
        "TOKENS: Sequence[tuple[str, str, str]] = (\n" + "\n".join(rows) + "\n)\n"
        "\n"
        "# Rules of gitleaks with a prefix that nothing above stands for, and the prefix:\n" + "\n".join(names) + "\n"
    )


LICENCE = """MIT License

Copyright (c) 2019 Zachary Rice

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE."""


def main() -> None:
    """Read the rules, hold ours against them, write the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rules", help="gitleaks' rule file: a path or an https:// address")
    parser.add_argument("--release", required=True, help="which one it is: a tag or commit")
    parser.add_argument("--date", default=datetime.now(UTC).date().isoformat(), help="when it was read")
    parser.add_argument("--out", type=Path, default=TARGET, help="the module to write")
    args = parser.parse_args()
    data = read(args.rules)
    rules = {rule["id"]: rule["regex"] for rule in tomllib.loads(data.decode())["rules"] if rule.get("regex")}
    if wrong := missed(CHOICES, rules):
        raise SystemExit("\n".join(["make_secret_rules: nothing was written.", *wrong]))
    left = not_taken(CHOICES, rules)
    args.out.write_text(rendered(CHOICES, left, data=data, release=args.release, date=args.date))
    sys.stderr.write(f"{args.out}: {len(CHOICES)} rows for {sum(len(each.rules) for each in CHOICES)} rules\n")
    sys.stderr.writelines(f"not taken: {name} ({begins})\n" for name, begins in left.items())


if __name__ == "__main__":
    main()
