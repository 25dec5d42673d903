"""One secret of every kind that codechunk knows, none of them real.

They are put together here, so that no scanner takes this file for a leak.
"""

import base64
import random
import string

_random = random.Random(20261121)


def _some(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(_random.choices(alphabet, k=count))


HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + "234567"

TOKENS = {
    "aws-access-key": "AKI" + "A" + _some(16, UPPER),
    "aws-bedrock-key": "ABS" + "K" + _some(130),
    "github-token": "gh" + "p_" + _some(36),
    "gitlab-token": "glp" + "at-" + _some(20),
    "google-api-key": "AI" + "za" + _some(35),
    "google-oauth-secret": "GOC" + "SPX-" + _some(28),
    "google-oauth-token": "ya" + "29." + _some(60),
    "slack-token": "xox" + "b-123456789012-1234567890123-" + _some(24),
    "stripe-key": "sk_" + "live_" + _some(24),
    "anthropic-key": "sk-" + "ant-api03-" + _some(93) + "AA",
    "openai-key": "sk-" + "proj-" + _some(74) + "T3Blbk" + "FJ" + _some(74),
    "npm-token": "np" + "m_" + _some(36),
    "pypi-token": "py" + "pi-AgEIcHlwaS5vcmc" + _some(60),
    "sendgrid-key": "S" + "G." + _some(22) + "." + _some(43),
    "twilio-key": "S" + "K" + _some(32, HEX),
    "mailgun-key": "ke" + "y-" + _some(32, HEX),
    "huggingface-token": "h" + "f_" + _some(34),
    "digitalocean-token": "do" + "p_v1_" + _some(64, HEX),
    "shopify-token": "shp" + "at_" + _some(32, HEX),
    "vault-token": "hv" + "s." + _some(95),
    "grafana-token": "gl" + "sa_" + _some(32) + "_" + _some(8, HEX),
    "databricks-token": "da" + "pi" + _some(32, HEX),
    "rubygems-token": "ruby" + "gems_" + _some(48, HEX),
    "docker-token": "dckr" + "_pat_" + _some(27),
    "atlassian-token": "ATA" + "TT3" + _some(180),
    "postman-key": "PM" + "AK-" + _some(24, HEX) + "-" + _some(34, HEX),
    "linear-key": "lin_" + "api_" + _some(40),
    "notion-token": "nt" + "n_" + _some(11, string.digits) + _some(35),
    "newrelic-key": "NR" + "AK-" + _some(27, UPPER),
    "pulumi-token": "pu" + "l-" + _some(40, HEX),
    "planetscale-token": "pscale" + "_tkn_" + _some(43),
    "doppler-token": "dp" + ".pt." + _some(43),
    "airtable-token": "pa" + "t" + _some(14) + "." + _some(64, HEX),
    "sentry-token": "sntr" + "yu_" + _some(64, HEX),
    "square-token": "sq0" + "atp-" + _some(22),
    "facebook-token": "EA" + "AC" + _some(120),
    "alibaba-key": "LT" + "AI" + _some(20),
    "flyio-token": "fo" + "1_" + _some(43),
    "perplexity-key": "pp" + "lx-" + _some(48),
    "groq-key": "gs" + "k_" + _some(52),
    "xai-key": "xa" + "i-" + _some(80),
    "replicate-token": "r" + "8_" + _some(37),
    "supabase-token": "sb" + "p_" + _some(40, HEX),
    "figma-token": "fi" + "gd_" + _some(40),
    "netlify-token": "nf" + "p_" + _some(36),
    "artifactory-token": "AK" + "Cp" + _some(69),
    "onepassword-token": "ops_" + "eyJ" + _some(250),
    "age-key": "AGE-SECRET" + "-KEY-1" + _some(58, string.ascii_uppercase),
    "jwt": "ey" + "JhbGciOiJIUzI1NiJ9." + "ey" + "J" + _some(40) + "." + _some(43),
    "terraform-token": _some(14) + ".atla" + "sv1." + _some(64),
    "telegram-token": "1234567890" + ":A" + "A" + _some(33),
    "azure-client-secret": "a1b8" + "Q" + "~" + _some(34),
}
"""Secrets that show what they are by themselves, by kind."""

_HOOK = "https://hooks.slack" + ".com/services/"
PASSWORD = "Tr0ub4dor&" + _some(4)
RANDOM = _some(40)
IN_CONTEXT = {
    "slack-webhook": (_HOOK + "{}", "T" + _some(8, UPPER) + "/B" + _some(8, UPPER) + "/" + _some(24)),
    "discord-webhook": ("https://discord.com/api/webhooks/123456789012345678/{}", _some(68)),
    "azure-key": ("DefaultEndpointsProtocol=https;AccountName=x;AccountKey={};", _some(86) + "=="),
    "azure-sas": ("https://x.blob.core.windows.net/c?sv=2020&sig={}", _some(44)),
    "docker-auth": ('{{"auths": {{"r": {{"auth": "{}"}}}}}}', base64.b64encode(b"user:" + PASSWORD.encode()).decode()),
    "url-password": ("postgres://admin:{}@db.internal:5432/app", "s3cr3t"),
    "curl": ("curl -u admin:{} https://x.org/", "s3cr3tS4uce"),
    "password, quoted": ('password = "{}"', PASSWORD),
    "password, JSON": ('"db_password": "{}",', PASSWORD),
    "password, escaped JSON": ('"{{\\"password\\": \\"{}\\"}}"', PASSWORD),
    "password, typed": ('    password: str = "{}"', PASSWORD),
    "password, default": ('def connect(host, password="{}", port=1):', PASSWORD),
    "password, C": ('static const char *db_passwd = "{}";', PASSWORD),
    "password, Go": ('	DBPass := "{}"', PASSWORD),
    "password, YAML": ("  password: {}", "aB3dE5fG7h"),
    "password, properties": ("spring.datasource.password={}", "aB3dE5fG7h"),
    "password, connection string": ("Server=db;User Id=sa;Password={};", "S3cr3tS4uce"),
    "password, XML": ("<password>{}</password>", "S3cr3tS4uce"),
    "password, attribute": ('<add key="Password" value="{}" />', "S3cr3tS4uce"),
    "secret, AWS": ("aws_secret_access_key = {}", _some(40)),
    "secret, quoted": ("SECRET_KEY = '{}'", "django-insecure-4k#" + _some(30)),
    "token, quoted": ("const apiKey = '{}';", RANDOM),
    "token, call": ('os.environ.setdefault("SERVICE_TOKEN", "{}")', RANDOM),
    "token, shell": ("export API_KEY={}", RANDOM),
    "token, npmrc": ("//registry.example.org/:_authToken={}", "6f3c1b2e-8a4d-4c5e-9b7f-0d1e2f3a4b5c"),
    "token, bearer": ('headers = {{"Authorization": "Bearer {}"}}', RANDOM),
    "token, basic": ("Authorization: Basic {}", base64.b64encode(b"user:" + PASSWORD.encode()).decode()),
}
"""Secrets that only the text around them gives away: kind, text with a place for it, secret."""


def private_key(kind: str = "RSA ", lines: int = 25, end: str = "\n") -> str:
    """A private key in PEM of this many lines of base64, with these line ends."""
    body = [_some(64, string.ascii_letters + string.digits + "+/") for _ in range(lines)]
    words = "PRIVATE KEY"
    return end.join([f"-----BEGIN {kind}{words}-----", *body, f"-----END {kind}{words}-----"])
