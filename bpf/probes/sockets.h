/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Birth and end of connections. */
#ifndef AUTOINSTR_SOCKETS_H
#define AUTOINSTR_SOCKETS_H

/*
 * Starts to track a file if it is a stream socket. `role` is known at accept and connect; then the connection is seen
 * from its first byte on.
 */
static __always_inline struct connection *track(__u64 file, __u32 role, __u8 *target)
{
	zero_key zero = 0;
	struct connection *blank = blank_connection.lookup((__u32 *)&zero);

	if (!blank || !is_stream(file))
		return NULL;

	__u64 sk = sock_of(file);
	__u16 family = sock_family(sk);
	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return NULL;
	connections.update(&sk, blank);

	struct connection *c = connections.lookup(&sk);
	if (!c)
		return NULL;
	count(COUNT_CONNECTIONS);
	c->role = role;
	c->fresh = role != ROLE_UNKNOWN;
	c->slot.protocol = PROTOCOL_HTTP1;
	c->slot.role = role;
	c->slot.connection = inode_number(file);
	if (family == AF_UNIX) {
		c->slot.family = FAMILY_UNIX;
		if (!(*target & TARGET_CLOSES))
			*target |= TARGET_CLOSES;
		return c;
	}
	if (is_multipath(address_of_sock(file)) && !(*target & TARGET_CLOSES))
		*target |= TARGET_CLOSES;
	c->slot.family = family == AF_INET ? FAMILY_INET : FAMILY_INET6;
	c->slot.local_port = local_port(sk);
	c->slot.remote_port = remote_port(sk);
	read_local(c->slot.local, sk, family);
	read_remote(c->slot.remote, sk, family);

	struct endpoint remote = {};
	__builtin_memcpy(remote.address, c->slot.remote, 16);
	remote.ports = (__u32)c->slot.remote_port << 16 | c->slot.local_port;
	if (own_endpoints.lookup(&remote))
		c->ignored = 1;
	return c;
}

/* The connection behind a file, if it is tracked. */
static __always_inline struct connection *tracked(__u64 file, __u64 sk)
{
	struct connection *c = connections.lookup(&sk);

	/* the end of a Unix socket may be missed, and another one be at its address: the kernel tells only of TCP's */
	if (c && c->slot.family == FAMILY_UNIX && c->slot.connection != inode_number(file)) {
		connections.delete(&sk);
		return NULL;
	}
	return c;
}

/* The agent has connected to somewhere. */
static __always_inline void note_own_endpoint(__u64 file)
{
	struct endpoint local = {};
	__u8 yes = 1;

	if (!is_stream(file))
		return;

	__u64 sk = sock_of(file);
	__u16 family = sock_family(sk);
	if (family != AF_INET && family != AF_INET6)
		return;
	read_local(local.address, sk, family);
	local.ports = (__u32)local_port(sk) << 16 | remote_port(sk);
	own_endpoints.update(&local, &yes);
}

/*
 * Ends what is going on on a connection. `last`: and the connection, too; in memory, for it is asked twice, and what lies
 * between looks alike then. `x`: memory to tell what is left with.
 */
static __always_inline void end_connection(__u64 key, struct connection *c, __u64 time, const __u32 *last, struct exchange *x,
					   __u32 *turns)
{
	if (*last) {
		if (c->entered)
			undo_entry(c); /* a write that found no room, and was not made again */
		if (c->closed)
			time = c->closed;
	}
	http1_barrier();
	if (c->http2)
		end_streams(c, key, time, x, turns);
	else if (!*last || !c->ignored)
		give_up(c, key, time, turns);
	http1_barrier();
	if (!*last)
		return;
	if (c->http2)
		http2_connections.delete(&key);
	connections.delete(&key);
}

/* A socket is gone: so is its connection, or its session's. */
static __always_inline int end_socket(__u64 sk, __u32 copy)
{
	__u64 key = sk;
	struct connection *c = connections.lookup(&sk);

	if (!c)
		return 0;
	if (c->other) {
		struct connection *session = connections.lookup(&c->other);

		if (session && session->other == sk) {
			key = c->other;
			c = session;
		}
	}

	struct last_words *words = last_words.lookup(&copy);
	if (!words)
		return 0;
	words->last = 1;
	end_connection(key, c, bpf_ktime_get_ns(), &words->last, &words->exchange, &words->turns);
	if (key != sk)
		connections.delete(&sk);
	return 0;
}

/* raw tracepoint: (struct sock *sk) */
static __always_inline int on_tcp_destroy_sock(struct bpf_raw_tracepoint_args *ctx, __u32 copy)
{
	__u64 sk = ctx->args[0];

#ifdef PROPAGATE
	announce_end(sk);
#endif
	return end_socket(sk, copy);
}
PROBE(tcp_destroy_sock)

/*
 * A connection of Multipath TCP is closed, and no tracepoint tells when it is destroyed. Who calls close() is done with it
 * (sys_enter), but processes also end without. What has come may still be read: a server has no use for it, for it can't
 * answer; a client does as long as it has the socket.
 */
static __always_inline int ends_multipath(__u64 sk, const struct connection *c)
{
	return is_multipath(sk) && (c->role != ROLE_CLIENT || !kernel_u64(sk + OFFSET_sock_sk_socket));
}

/* raw tracepoint: (const struct sock *sk, const int oldstate, const int newstate) */
static __always_inline int on_inet_sock_set_state(struct bpf_raw_tracepoint_args *ctx, __u32 copy)
{
	__u64 sk = ctx->args[0];
	__u32 state = ctx->args[2];

	if (state == TCP_LISTEN) {
		listening(sk);
		return 0;
	}
#ifdef PROPAGATE
	if (state == TCP_SYN_SENT) {
		__u8 *target = target_of(current_pid());

		if (target && *target & TARGET_WATCHED && !(*target & TARGET_SELF))
			announce_on(sk);
		return 0;
	}
#endif
	if (state == TCP_ESTABLISHED && ctx->args[1] == TCP_SYN_SENT) {
		struct connection *client = connections.lookup(&sk);

		if (client)
			make_early_call(client, sk);
		return 0;
	}
	if (state != TCP_FIN_WAIT1 && state != TCP_LAST_ACK && state != TCP_CLOSE)
		return 0;

	struct connection *c = connections.lookup(&sk);
	if (c && c->other)
		c = connections.lookup(&c->other);
	if (!c || c->ignored)
		return 0;
	if (state == TCP_CLOSE) {
		__u32 error = kernel_u32(sk + OFFSET_sock_sk_err);

		if (error && !c->error)
			c->error = error;
		return ends_multipath(sk, c) ? end_socket(sk, copy) : 0;
	}
	/* our side sends no more: a response that ends with the connection ends now, though it is told later */
	if (!c->closed && c->role == ROLE_SERVER)
		c->closed = bpf_ktime_get_ns();
	return 0;
}
PROBE(inet_sock_set_state)

#endif
