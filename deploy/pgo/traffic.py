"""What gateways get: the kinds of requests of the training, with their shares and the responses that they must have."""

from dataclasses import dataclass, field

from keygate import SCOPE

TOKENS = 50
ISSUED = "/v2alpha1/admin/issuedApiKeys"
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Accept": "application/json, text/plain, */*",
    "Accept-Encoding": "gzip, deflate, br",
    "Accept-Language": "en-GB,en;q=0.9",
    "Referer": "https://app.example.com/orders",
}


@dataclass
class Kind:
    """A kind of request. `share` is in thousandths of all requests."""

    name: str
    share: int
    requests: list
    status: int = 200
    # The length of the body of the response; None if it does not matter.
    length: int = None
    has_body: bool = True
    # Which port of Keygate: gateway, secure or authorizer.
    port: str = "gateway"
    connections: int = 32


@dataclass
class Credentials:
    """What the requests present."""

    keys: list = field(default_factory=list)
    jwts: list = field(default_factory=list)
    macaroons: list = field(default_factory=list)
    revoked: str = ""
    exhausted: str = ""


def issue(keygate, requests):
    """Issues keys for this number of requests and derives tokens from them.

    There are enough keys for threads to look many of them up in the shared cache, as they do in busy gateways.
    """
    made = Credentials()
    count = max(TOKENS, requests // 100)
    made.keys = [issue_one(keygate, number)["secret"] for number in range(count)]
    for key in made.keys[:TOKENS]:
        made.jwts.append(derive(keygate, key, "jwt"))
        made.macaroons.append(derive(keygate, key, "macaroon"))
    revoked = issue_one(keygate, count)
    keygate.call(f"{ISSUED}/{revoked['issued_api_key']['key_id']}:revoke", {})
    made.revoked = revoked["secret"]
    limited = {"rate_limit_policy": {"quota": "1", "window": "3600s"}}
    made.exhausted = issue_one(keygate, count + 1, **limited)["secret"]
    return made


def issue_one(keygate, number, **members):
    key = {"name": f"key {number}", "actor_id": f"actor-{number % 100}", "scopes": [SCOPE, "orders:write"]}
    return keygate.call_json(ISSUED, key | {"metadata": {"team": "payments"}} | members)


def derive(keygate, key, algorithm):
    wanted = {"credential": key, "algorithm": f"TOKEN_ALGORITHM_{algorithm.upper()}", "ttl": "24h"}
    return keygate.call_json("/v2alpha1/admin/apiKeys:derive", wanted)["token"]["token"]


def forge(keys):
    """The same keys with the checksums of others: of the right shape, and forged."""
    others = keys[1:] + keys[:1]
    return [f"{key.rpartition('_')[0]}_{other.rpartition('_')[2]}" for key, other in zip(keys, others)]


def request(method, path, fields=None, body=b""):
    lines = [f"{method} {path} HTTP/1.1", "Host: api.example.com"]
    lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def bearer(credential):
    return {"Authorization": f"Bearer {credential}"}


def each(credentials, path="/orders", method="GET", body=b"", has_browsers=True):
    """One request with each credential, with few fields; every fourth as a browser sends it, if there are browsers."""
    return [
        request(method, path, bearer(credential) | (BROWSER if has_browsers and number % 4 == 3 else {}), body)
        for number, credential in enumerate(credentials)
    ]


def kinds(made):
    """All kinds. Most requests present keys, and pass."""
    return [*accepted(made), *with_methods(made), *rejected(made), *checks(made)]


def common(made):
    """What most requests of busy gateways are, and the attacks on them. Each kind has enough requests for its code to count as hot."""
    return [
        Kind("keys", 200, each(made.keys, has_browsers=False), length=1024),
        Kind("one key", 120, each(made.keys[:1], has_browsers=False), length=1024),
        Kind("chunked responses", 130, each(made.keys, "/orders/chunked", has_browsers=False), length=1024),
        Kind("JWTs", 140, each(made.jwts, has_browsers=False), length=1024),
        Kind("macaroons", 140, each(made.macaroons, has_browsers=False), length=1024),
        Kind("forged keys", 270, each(forge(made.keys), has_browsers=False), status=401),
    ]


def accepted(made):
    by_api_key = [request("GET", "/orders", {"X-API-Key": key}) for key in made.keys]
    return [
        Kind("keys", 380, each(made.keys), length=1024),
        Kind("keys in X-API-Key", 40, by_api_key, length=1024),
        Kind("keys, many connections", 40, each(made.keys), length=1024, connections=100),
        Kind("one key", 100, each(made.keys[:1]), length=1024, connections=1),
        Kind("chunked responses", 80, each(made.keys, "/orders/chunked"), length=1024),
        Kind("JWTs", 40, each(made.jwts), length=1024),
        Kind("macaroons", 40, each(made.macaroons), length=1024),
        Kind("TLS", 80, each(made.keys), length=1024, port="secure"),
        Kind("no authentication", 10, [request("GET", "/public/page?lang=en", BROWSER)], length=1024),
    ]


def with_methods(made):
    body = b'{"item":"' + b"a" * 500 + b'"}'
    chunks = {"Transfer-Encoding": "chunked"}
    chunked = [request("POST", "/orders", bearer(key) | chunks) + b"100\r\n" + b"a" * 256 + b"\r\n0\r\n\r\n" for key in made.keys]
    return [
        Kind("HEAD", 10, each(made.keys, method="HEAD"), has_body=False),
        Kind("POST", 30, each(made.keys, method="POST", body=body), length=1024),
        Kind("POST, chunked", 10, chunked, length=1024),
        Kind("PUT", 10, each(made.keys, method="PUT", body=body), length=1024),
        Kind("204", 10, each(made.keys, "/orders/empty"), status=204),
    ]


def rejected(made):
    unknown = [f"sk_live_{number:032x}" for number in range(1000)]
    return [
        Kind("forged keys", 30, each(forge(made.keys)), status=401),
        Kind("unknown keys", 10, each(unknown), status=401),
        Kind("no credential", 10, [request("GET", "/orders")], status=401),
        Kind("a revoked key", 5, each([made.revoked]), status=401),
        Kind("a missing scope", 5, each(made.keys, "/reports"), status=403),
        Kind("beyond the limit", 5, each([made.exhausted]), status=429),
        Kind("no route", 5, each(made.keys, "/other"), status=404),
    ]


def checks(made):
    """What other proxies ask."""
    client = {"X-Forwarded-For": "192.0.2.7"}
    original = {"X-Original-Method": "GET", "X-Original-URI": "/orders", "X-Original-Host": "api.example.com", "X-Real-IP": "192.0.2.7"}
    forwarded = client | {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/orders", "X-Forwarded-Host": "api.example.com"}
    nginx = [request("GET", "/nginx", original | bearer(key)) for key in made.keys]
    forward = [request("GET", "/forward", forwarded | bearer(key)) for key in made.keys]
    envoy = [request("GET", "/envoy/orders", client | bearer(key)) for key in made.keys]
    return [
        Kind("checks of nginx", 20, nginx, port="authorizer"),
        Kind("checks of nginx, rejected", 5, [request("GET", "/nginx", original)], status=401, port="authorizer"),
        Kind("checks of Traefik", 10, forward, port="authorizer"),
        Kind("checks of Envoy", 10, envoy, port="authorizer"),
    ]
