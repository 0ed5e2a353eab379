"""Which metrics there are: how the quantities of each family of requests are called."""

from __future__ import annotations

from autoinstr import semconv

# By prefix (a group's `metric`). Conventions have no sizes of RPCs, but of each message.
DURATIONS = {
    prefix: f"{prefix}.{name}"
    for name, prefixes in {
        semconv.REQUEST_DURATION: (semconv.HTTP_SERVER, semconv.HTTP_CLIENT),
        semconv.CALL_DURATION: (semconv.RPC_SERVER, semconv.RPC_CLIENT),
    }.items()
    for prefix in prefixes
}
OLD_RPC_DURATIONS = {
    prefix: f"{prefix}.{semconv.CALL_DURATION_OLD}" for prefix in (semconv.RPC_SERVER, semconv.RPC_CLIENT)
}
REQUEST_SIZES, RESPONSE_SIZES = (
    {prefix: f"{prefix}.{name}" for prefix in (semconv.HTTP_SERVER, semconv.HTTP_CLIENT)}
    for name in (semconv.REQUEST_BODY_SIZE, semconv.RESPONSE_BODY_SIZE)
)
