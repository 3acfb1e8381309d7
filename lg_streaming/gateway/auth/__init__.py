"""Decide who may connect, and what each caller may read and do.

- `policy`: the rules: origin, token, revocation, ownership, grants, `authorize`.
- `own_sessions`: logins by the application.
- `claims`: checks of tokens; `keys`, `jwks`: the keys; `principal`: the account and grants of a token.
- `links`: read-only credentials for one execution; `shared_secret`: keys that a fleet shares.
- `tickets`, `shared_tickets`, `url_credentials`: tickets in addresses; `revocation`: revoked tokens.
- `shared_revocations`: revocations of several processes.
- `peer`: the request of a caller: origin, host, address, signs of a proxy.
"""
