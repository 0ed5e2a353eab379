/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Between processes: both ends of a TCP connection know its two initial sequence numbers, whatever lies between them
 * (address translation, network namespaces, TLS). Under them a client leaves what it asks (an offer), and the server, if
 * it is watched by the same agent, finds it there. No byte on the wire is changed.
 */
#ifndef AUTOINSTR_OFFERS_H
#define AUTOINSTR_OFFERS_H

/* Of a TCP socket, and of one that is about to be connected. */
static __always_inline __u64 numbers_of(const struct connection *c, __u64 sk)
{
	__u32 sent = kernel_u32(sk + OFFSET_tcp_sock_snd_una) - (__u32)kernel_u64(sk + OFFSET_tcp_sock_bytes_acked);
	__u32 got = kernel_u32(sk + OFFSET_tcp_sock_rcv_nxt) - (__u32)kernel_u64(sk + OFFSET_tcp_sock_bytes_received);

	/* a client's SYN counts as acknowledged, and nothing else of the handshake is counted */
	return c->role == ROLE_CLIENT ? (__u64)(sent + 1) << 32 | got : (__u64)got << 32 | sent;
}

/* What both ends of a connection know it by; 0: nothing. */
static __always_inline __u64 pair_of(const struct connection *c, __u64 sk)
{
	if (!sk || c->role == ROLE_UNKNOWN)
		return 0;
	if (c->slot.family == FAMILY_UNIX) {
#ifdef OFFSET_unix_sock_peer
		return c->role == ROLE_CLIENT ? kernel_u64(sk + OFFSET_unix_sock_peer) : sk;
#else
		return 0;
#endif
	}

	sk = first_tcp_of(sk);
	return sk && !is_connecting(sk) ? numbers_of(c, sk) : 0;
}

static __always_inline void know_pair(struct connection *c, __u64 key)
{
	if (!c->pair)
		c->pair = pair_of(c, c->session ? c->other : key);
}

/* Both ends of a request are met: the server's has its parent, and knows who that is. */
static __always_inline void join_ends(struct trace *served, const struct trace *call, __u32 client)
{
	served->peer = client;
	continue_trace(served, call, TRACE_PEER | (call->flags & TRACE_KEPT));
}

/* The client has left a call. */
static __always_inline void take_offer(struct trace *t, struct offer *offer, __u32 pid)
{
	struct trace *call = served_trace(&offer->request);

	join_ends(t, &offer->trace, offer->trace.peer);
	if (call)
		call->peer = pid;
	offer->state = OFFER_TAKEN;
}

/* The server has met the request already: it gets its parent now, if nothing has been done in its own trace. */
static __always_inline void answer_offer(struct trace *t, struct offer *offer, __u32 pid)
{
	struct trace *served = served_trace(&offer->request);

	t->peer = offer->trace.peer;
	if (served && !served->parent && !(served->flags & TRACE_USED))
		join_ends(served, t, pid);
	else if (served && !served->parent)
		say_why(served, ORPHAN_CALLER_UNSURE);
	offer->state = OFFER_TAKEN;
}

/* Leaves something for the other end. */
static __always_inline void leave_offer(struct offer *offer, const struct trace *t, const struct served *request,
					__u32 number, __u32 pid, __u8 state)
{
	offer->trace = *t;
	offer->trace.peer = pid;
	offer->request = *request;
	offer->number = number;
	offer->state = state;
}

/* The offers of a connection, made if need be. */
static __always_inline struct offers *offers_of(const struct connection *c)
{
	__u64 pair = c->pair;
	zero_key zero = 0;
	struct offers *all = offers.lookup(&pair), *blank = blank_offers.lookup((__u32 *)&zero);

	if (all || !blank)
		return all;
	offers.insert(&pair, blank); /* the other end may be here at the same time */

	struct made *m = made.lookup((__u32 *)&zero);
	if (m)
		__sync_fetch_and_add(&m->offers, 1);
	return offers.lookup(&pair);
}

/* The call that was left for the request with this number; NULL: there is none, or it is not certain which. */
static __always_inline struct offer *find_call(struct connection *c, struct trace *t, __u32 number)
{
	__u64 pair = c->pair;
	zero_key zero = 0;
	struct made *m = made.lookup((__u32 *)&zero);

	if (!m || !pair || c->unasked == m->offers + 1)
		return NULL;

	__u32 now = m->offers + 1;

	struct offers *all = offers.lookup(&pair);
	if (!all) {
		c->unasked = now;
		return NULL;
	}

	int numbered = all->fresh && c->fresh;
	struct offer *offer = &all->offers[(numbered ? number : all->last) & (OFFERS - 1)];

	if (offer->state == OFFER_CALL && (numbered ? offer->number == number : all->single))
		return offer;
	if (all->called)
		say_why(t, ORPHAN_CALLER_UNSURE);
	return NULL;
}

/* May the client leave its call for this request later than the server meets that? */
static __always_inline int is_call_coming(const struct connection *c, __u64 key)
{
	if (c->session)
		return 1;
	if (c->requests != 1 || c->slot.family == FAMILY_UNIX)
		return 0;

	__u64 sk = first_tcp_of(key);
	return sk && came_early(sk);
}

/* A server has met a request that its client may not have told of yet. */
static __always_inline void wait_for_call(const struct connection *c, const struct trace *t, const struct served *request,
					  __u32 number, __u32 pid)
{
	struct offers *all = c->pair && c->fresh ? offers_of(c) : NULL;

	if (all)
		leave_offer(&all->offers[number & (OFFERS - 1)], t, request, number, pid, OFFER_WAITS);
}

static __always_inline void make_call(const struct connection *c, struct trace *t, const struct served *request,
				      __u32 number, __u32 pid)
{
	struct offers *all = c->pair ? offers_of(c) : NULL;

	if (!all)
		return;

	struct offer *offer = &all->offers[number & (OFFERS - 1)];

	all->last = number;
	all->fresh = c->fresh;
	all->called = 1;
	all->single = c->requests - c->responses == 1;
	if (offer->state == OFFER_WAITS && offer->number == number && c->fresh)
		answer_offer(t, offer, pid);
	else
		leave_offer(offer, t, request, number, pid, OFFER_CALL);
}

/*
 * A client's socket is connected, and what was written to it before that leaves now, if not with its SYN (TCP Fast Open):
 * so does the call. The socket is in its new state when this has returned.
 */
static __always_inline void make_early_call(struct connection *c, __u64 sk)
{
	struct served call = {.key = sk, .span = c->slot.trace.span};

	if (c->role != ROLE_CLIENT || c->pair || c->requests != 1 || !c->slot_used || c->http2 || c->ignored)
		return;
	c->pair = numbers_of(c, sk);
	make_call(c, &c->slot.trace, &call, c->slot.sequence, c->slot.pid);
}

/*
 * Is anybody to be met at the other end, who is a target, too? A client that is one says so, by an offer for no stream; a
 * server takes it that one may come while the connection is new.
 */
static __always_inline int is_met(const struct connection *c, int is_new)
{
	struct stream_pair key = {.pair = c->pair};
	struct offer here = {};

	if (!c->pair || (c->role == ROLE_SERVER && is_new))
		return c->pair != 0;
	if (stream_offers.lookup(&key))
		return 1;
	if (c->role == ROLE_CLIENT)
		stream_offers.update(&key, &here);
	return c->role == ROLE_CLIENT;
}

/*
 * One end of a connection has met a stream. What it leaves for the other one goes in only if there is nothing yet: both may
 * be here at the same time, on two CPUs, and then one of them finds what the other has left.
 */
static __always_inline void meet_stream(const struct connection *c, struct trace *t, const struct served *request, __u32 pid,
					int is_new)
{
	if (!is_met(c, is_new))
		return;

	struct stream_pair key = {.pair = c->pair, .stream = request->stream};
	int is_server = c->role == ROLE_SERVER;
	struct offer new = {};

	leave_offer(&new, t, request, 0, pid, is_server ? OFFER_WAITS : OFFER_CALL);
	if (!stream_offers.insert(&key, &new))
		return;

	struct offer *offer = stream_offers.lookup(&key);
	if (!offer || offer->state != (is_server ? OFFER_CALL : OFFER_WAITS))
		return;
	if (is_server)
		take_offer(t, offer, pid);
	else
		answer_offer(t, offer, pid);
	stream_offers.delete(&key);
}

#endif
