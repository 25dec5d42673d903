"""Tokens that a provider marks with a prefix. Written by scripts/make_secret_rules.py: edit that one."""

# Held against the rules of gitleaks v8.30.0 and 27 commits (b58d3f102cf3) on 2026-11-27
# (config/gitleaks.toml, sha256 e163e53b9e7e8a8511e77271e2b323ed057759542a6d988258afe3a1fa329caf).
# Kinds and prefixes follow those rules. gitleaks' licence:
#
# MIT License
#
# Copyright (c) 2019 Zachary Rice
#
# Permission is hereby granted, free of charge, to any person obtaining a copy
# of this software and associated documentation files (the "Software"), to deal
# in the Software without restriction, including without limitation the rights
# to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
# copies of the Software, and to permit persons to whom the Software is
# furnished to do so, subject to the following conditions:
#
# The above copyright notice and this permission notice shall be included in all
# copies or substantial portions of the Software.
#
# THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
# IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
# FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
# AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
# LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
# OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
# SOFTWARE.
# ruff: noqa: E501

from collections.abc import Sequence

# Kind, what it begins with (alternatives that each start with a letter or digit), the rest.
# Above each: the rules of gitleaks that it stands for.
TOKENS: Sequence[tuple[str, str, str]] = (
    # aws-access-token
    ("aws-access-key", r"A3T[A-Z0-9]|A(?:KIA|SIA|BIA|CCA)", r"[A-Z0-9]{16}(?![A-Za-z0-9+/=])"),
    # aws-amazon-bedrock-api-key-long-lived
    ("aws-bedrock-key", r"ABSK", r"[A-Za-z0-9+/]{100,270}={0,2}"),
    # github-pat, github-oauth, github-app-token, github-refresh-token
    ("github-token", r"gh[pousr]_", r"[A-Za-z0-9_]{36,255}"),
    # github-fine-grained-pat
    ("github-token", r"github_pat_", r"\w{40,255}"),
    # gitlab-pat, gitlab-pat-routable, gitlab-deploy-token, gitlab-feed-token, gitlab-scim-token, gitlab-runner-authentication-token, gitlab-runner-authentication-token-routable, gitlab-cicd-job-token, gitlab-ptt, gitlab-oauth-app-secret, gitlab-kubernetes-agent-token, gitlab-feature-flag-client-token
    ("gitlab-token", r"gl(?:pat|dt|ft|soat|rt|cbt|ptt|imt|oas|agent|ffct)-", r"[\w.-]{20,300}"),
    # gitlab-rrt
    ("gitlab-token", r"GR1348941", r"[\w-]{20,}"),
    # gcp-api-key
    ("google-api-key", r"AIza", r"[\w-]{35}(?![\w-])"),
    # not in gitleaks
    ("google-oauth-secret", r"GOCSPX-", r"[\w-]{20,}"),
    # not in gitleaks
    ("google-oauth-token", r"ya29\.", r"[\w-]{20,}"),
    # not in gitleaks
    ("google-oauth-token", r"1//0", r"[\w-]{40,}"),
    # slack-bot-token, slack-user-token, slack-legacy-bot-token, slack-legacy-token, slack-legacy-workspace-token (partly), slack-config-access-token (partly), slack-config-refresh-token
    ("slack-token", r"xox[abeoprs][.-]", r"(?=[\w.-]{0,16}\d)[\w.-]{10,}"),
    # slack-app-token
    ("slack-token", r"xapp-\d-", r"[A-Za-z0-9-]{20,}"),
    # stripe-access-token
    ("stripe-key", r"sk_(?:live|test|prod)_|rk_(?:live|test|prod)_", r"[A-Za-z0-9]{16,}"),
    # not in gitleaks
    ("stripe-key", r"whsec_", r"[A-Za-z0-9+/]{32,}"),
    # anthropic-admin-api-key, anthropic-api-key
    ("anthropic-key", r"sk-ant-", r"[\w-]{24,}"),
    # openai-api-key
    ("openai-key", r"sk-(?:proj|svcacct|admin|None|or-v1)-", r"[\w-]{20,}"),
    # openai-api-key (partly)
    ("openai-key", r"sk-", r"(?=[A-Za-z]{0,30}\d)[A-Za-z0-9]{32,}(?![\w-])"),
    # npm-access-token
    ("npm-token", r"npm_", r"[A-Za-z0-9]{36}(?!\w)"),
    # pypi-upload-token
    ("pypi-token", r"pypi-", r"[\w-]{50,}"),
    # sendgrid-api-token (partly)
    ("sendgrid-key", r"SG\.", r"[\w-]{16,32}\.[\w-]{16,64}"),
    # twilio-api-key (partly)
    ("twilio-key", r"SK", r"[0-9a-f]{32}(?!\w)"),
    # mailgun-private-api-token
    ("mailgun-key", r"key-", r"[0-9a-f]{32}(?!\w)"),
    # huggingface-access-token, huggingface-organization-api-token
    ("huggingface-token", r"hf_|api_org_", r"[A-Za-z0-9]{34,}"),
    # digitalocean-access-token, digitalocean-pat, digitalocean-refresh-token
    ("digitalocean-token", r"do[opr]_v1_", r"[0-9a-f]{64}"),
    # shopify-access-token, shopify-custom-access-token, shopify-private-app-access-token, shopify-shared-secret
    ("shopify-token", r"shp(?:at|ca|pa|ss)_", r"[0-9a-fA-F]{32}"),
    # vault-batch-token, vault-service-token
    ("vault-token", r"hv[sbr]\.", r"[\w-]{20,}"),
    # grafana-cloud-api-token (partly), grafana-service-account-token
    ("grafana-token", r"glsa_|glc_", r"[A-Za-z0-9+/_]{32,}={0,2}"),
    # databricks-api-token
    ("databricks-token", r"dapi", r"[0-9a-f]{32}(?:-\d)?(?!\w)"),
    # rubygems-api-token
    ("rubygems-token", r"rubygems_", r"[0-9a-f]{48}"),
    # not in gitleaks
    ("docker-token", r"dckr_(?:pat|oat)_", r"[\w-]{24,}"),
    # atlassian-api-token (partly)
    ("atlassian-token", r"ATATT3|ATCTT3", r"[\w=-]{60,}"),
    # postman-api-token
    ("postman-key", r"PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}"),
    # linear-api-key
    ("linear-key", r"lin_api_", r"[A-Za-z0-9]{40}"),
    # notion-api-token
    ("notion-token", r"ntn_", r"[A-Za-z0-9]{40,}"),
    # new-relic-user-api-key (partly)
    ("newrelic-key", r"NRAK-", r"[A-Z0-9]{27}"),
    # pulumi-api-token
    ("pulumi-token", r"pul-", r"[0-9a-f]{40}"),
    # planetscale-api-token, planetscale-oauth-token, planetscale-password
    ("planetscale-token", r"pscale_(?:tkn|oauth|pw)_", r"[\w=.-]{32,64}"),
    # doppler-api-token
    ("doppler-token", r"dp\.(?:pt|st|ct|sa)\.", r"[\w.-]{40,}"),
    # airtable-personnal-access-token
    ("airtable-token", r"pat", r"[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    # sentry-org-token, sentry-user-token
    ("sentry-token", r"sntry[us]_", r"[\w+/=]{40,}"),
    # square-access-token
    ("square-token", r"sq0(?:atp|csp)-", r"[\w-]{22,60}"),
    # facebook-page-access-token
    ("facebook-token", r"EAA[A-Z]", r"[A-Za-z0-9]{90,}(?![A-Za-z0-9+/=])"),
    # alibaba-access-key-id
    ("alibaba-key", r"LTAI", r"[A-Za-z0-9]{17,20}(?!\w)"),
    # flyio-access-token
    ("flyio-token", r"fo1_|fm[12][ar]?_", r"[\w+/=,-]{43,}"),
    # perplexity-api-key
    ("perplexity-key", r"pplx-", r"[A-Za-z0-9]{40,}"),
    # not in gitleaks
    ("groq-key", r"gsk_", r"[A-Za-z0-9]{50,}"),
    # not in gitleaks
    ("xai-key", r"xai-", r"[A-Za-z0-9]{70,}"),
    # not in gitleaks
    ("replicate-token", r"r8_", r"[A-Za-z0-9]{37,}"),
    # not in gitleaks
    ("supabase-token", r"sbp_|sb_secret_", r"[\w-]{30,}"),
    # not in gitleaks
    ("figma-token", r"figd_", r"[\w-]{38,}"),
    # not in gitleaks
    ("netlify-token", r"nfp_", r"[A-Za-z0-9]{36,}"),
    # artifactory-api-key, artifactory-reference-token
    ("artifactory-token", r"AKCp|cmVmd", r"[A-Za-z0-9]{59,73}(?!\w)"),
    # 1password-service-account-token
    ("onepassword-token", r"ops_eyJ", r"[A-Za-z0-9+/]{100,}={0,3}"),
    # age-secret-key
    ("age-key", r"AGE-SECRET-KEY-1", r"[0-9A-Z]{58}"),
    # jwt (partly)
    ("jwt", r"eyJ", r"[\w-]{14,}\.eyJ?[\w-]{10,}\.[\w-]{8,}"),
)

# Rules of gitleaks with a prefix that nothing above stands for, and the prefix:
#   1password-secret-key: A3-
#   adobe-client-secret: p8e-
#   aws-amazon-bedrock-api-key-short-lived: bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t
#   clickhouse-cloud-api-secret-key: 4b1d
#   clojars-api-token: CLOJARS_
#   cloudflare-origin-ca-key: v1.0-
#   duffel-api-token: duffel_
#   dynatrace-api-token: dt0c01.
#   easypost-api-token: EZAK
#   easypost-test-api-token: EZTK
#   flutterwave-encryption-key: FLWSECK_TEST-
#   flutterwave-public-key: FLWPUBK_TEST-
#   flutterwave-secret-key: FLWSECK_TEST-
#   frameio-api-token: fio-u-
#   gitlab-incoming-mail-token: glimt-
#   gitlab-session-cookie: _gitlab_session
#   grafana-api-key: eyJrIjoi
#   harness-api-key: pat
#   heroku-api-key-v2: HRKU-AA
#   infracost-api-token: ico-
#   intra42-client-secret: s-s4t2
#   kubernetes-secret-yaml: kind
#   microsoft-teams-webhook: https
#   octopus-deploy-api-key: API-
#   openshift-user-token: sha256
#   prefect-api-token: pnu_
#   readme-api-token: rdme_
#   scalingo-api-token: tk-us-
#   sendinblue-api-token: xkeysib-
#   settlemint-application-access-token: sm_aat_
#   settlemint-personal-access-token: sm_pat_
#   settlemint-service-access-token: sm_sat_
#   shippo-api-token: shippo_
#   sidekiq-sensitive-url: https
#   sourcegraph-access-token: sgp_
