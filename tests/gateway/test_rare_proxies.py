"""Local mode, seen from proxies that few people have: what they add is a sign, what local programs send is none."""

import pytest

from lg_streaming.gateway.auth.peer import Peer


def caller(*names: str) -> Peer:
    headers = {"host": "localhost:8000", **dict.fromkeys((name.lower() for name in names), "1")}
    return Peer(address="127.0.0.1", headers=headers, server=("127.0.0.1", 8000))


@pytest.mark.parametrize(
    "name",
    [
        "CF-Connecting-IP",
        "Forwarded-For-IP",
        "Proxied-By",
        "Remote-Email",
        "Remote-User",
        "Rndr-Id",
        "SSL-Client-Cert",
        "Sec-Forwarded",
        "True-Client-IP",
        "X-Auth-Request-User",
        "X-Authenticated-User",
        "X-Backend-Host",
        "X-Bluecoat-Via",
        "X-Browser-IP",
        "X-Client-Cert-Dn",
        "X-Consumer-Username",
        "X-Envoy-External-Address",
        "X-Goog-Authenticated-User-Email",
        "X-HTTP-Host-Override",
        "X-MS-Client-Principal",
        "X-MS-Forwarded-Client-Cert",
        "X-MS-Proxy",
        "X-Origin-Host",
        "X-Railway-Request-Id",
        "X-Request-Start",
        "X-SSL-Client-Verify",
        "X-True-IP",
        "X_Real_IP",
    ],
)
def test_what_a_rare_proxy_adds_is_a_sign_of_it(name: str) -> None:
    assert "proxy" in (caller(name).why_not_local or "")


def test_what_local_programs_send_is_none() -> None:
    names = (
        "Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Type", "Cookie", "DNT",
        "Last-Event-ID", "Pragma", "Priority", "Sec-CH-UA", "Sec-CH-UA-Platform", "Sec-GPC", "TE", "Traceparent",
        "Tracestate", "Upgrade-Insecure-Requests", "User-Agent", "X-API-Key", "X-B3-TraceId", "X-CSRF-Token",
        "X-Client-Info", "X-Correlation-ID", "X-Goog-Api-Client", "X-Request-ID", "X-Requested-With",
        "X-Stainless-Arch", "X-Stainless-Retry-Count", "X-Zipkin", "X-Trip", "X-Ship-To", "X-Tips", "X-Recipient",
    )  # fmt: skip
    assert caller(*names).why_not_local is None
