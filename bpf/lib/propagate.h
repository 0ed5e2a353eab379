/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Trace contexts for other hosts: what a request that a client is about to write says of itself, and where.
 *
 * A request's place in a trace is known here before its bytes are in the socket: those that complete its head will begin
 * at the socket's write_seq. That number, TCP's own, is what holds context and bytes together: the programs of
 * probes/propagate.h act on the very byte that has it, and the receiver on the request in whose head that byte lies. Where
 * numbers differ nothing happens, whatever the reason.
 *
 * Only compiled where it is asked for: PROPAGATE_TCP or PROPAGATE_HEADERS.
 */
#ifndef AUTOINSTR_PROPAGATE_H
#define AUTOINSTR_PROPAGATE_H

#if defined(PROPAGATE_TCP) || defined(PROPAGATE_HEADERS)
#define PROPAGATE

/* Of TRACE_*, what travels. */
#define TRACE_TRAVELS (TRACE_SAMPLED | TRACE_DECIDED | TRACE_KEPT)

struct announcement {
	struct trace trace;
	__u64 starts;  /* first bytes of the request */
	__u32 number;  /* TCP's, of the first byte of the write that completes the head */
	__u32 began;   /* the same, of the write with which the request began */
	__u32 request; /* which of the connection, counted from 1, if a write began with it; else 0 */
	__u32 head;    /* bytes of the head, if it lies within one write; else 0 */
	__u8 pending;  /* nothing was done with it yet */
	__u8 room;     /* the last segment size was made with room for the option */
	__u8 sent;     /* the option went out, and what became of it is not known */
	__u8 field;    /* the head has trace context of its own */
	__u8 frames;   /* it is HTTP/2 (lib/outgoing.h) */
	__u8 unused[3];
	struct caller by; /* HTTP/2: who makes the write whose first byte has `number` */
};
/* A client's socket, by address: inserted when a watched process connects, deleted when the kernel destroys it. */
BPF_TABLE("lru_hash", u64, struct announcement, announcements, MAX_CONNECTIONS);

#ifdef PROPAGATE_HEADERS
/*
 * Sockets, by address, until the kernel destroys them: those whose messages `propagate_message` is shown, and those that
 * are kept from it.
 */
enum { SHOWN = 1, KEPT = 2 };
BPF_TABLE("hash", u64, u8, shown, MAX_CONNECTIONS);
#endif

/* What came with a server's bytes: the last of a socket; inserted when it comes, deleted when the kernel destroys it. */
struct arrival {
	struct trace trace;
	__u32 number; /* TCP's, of the first byte of the segment */
	__u32 unused;
};
BPF_TABLE("lru_hash", u64, struct arrival, arrivals, MAX_CONNECTIONS);

/*
 * By address of the other end: options whose segment had to be sent again, since one went through. Whoever drops segments
 * for their options gets no more of them; least recently used ones go first.
 */
#define MAX_REFUSALS 3
struct host {
	__u8 address[16];
};
BPF_TABLE("lru_hash", struct host, u32, refusals, 1024);

/*
 * Is that one of the user's own networks (RFC 1918, 3927, 4193, 6598), and not this host? An option is for agents of the
 * same user, and what lies between hosts is his, too.
 */
static __always_inline int is_private(const __u8 *address)
{
	if (address[10] == 0xff && address[11] == 0xff && !address[0]) {
		__u32 v4 = (__u32)address[12] << 24 | address[13] << 16 | address[14] << 8 | address[15];

		return v4 >> 24 == 10 || v4 >> 20 == 0xac1 || v4 >> 16 == 0xc0a8 || v4 >> 16 == 0xa9fe ||
		       v4 >> 22 == 0x191;
	}
	return (address[0] & 0xfe) == 0xfc || (address[0] == 0xfe && (address[1] & 0xc0) == 0x80);
}

/* A watched process connects: its requests there may say what they are. */
static __always_inline void announce_on(__u64 sk)
{
	__u16 family = sock_family(sk);
	struct announcement a = {};

	if (family != AF_INET && family != AF_INET6)
		return;
	if (kernel_u16(sk + OFFSET_sock_sk_protocol) != IPPROTO_TCP || kernel_u64(sk + OFFSET_inet_connection_sock_icsk_ulp_ops))
		return; /* Multipath TCP, and the sockets of its ways: the kernel numbers and sends by itself what goes over these */
#ifndef PROPAGATE_HEADERS
	struct host to = {};

	read_remote(to.address, sk, family);
	if (!is_private(to.address))
		return;

	__u32 *refused = refusals.lookup(&to);
	if (refused && *refused >= MAX_REFUSALS)
		return;
#endif
	announcements.update(&sk, &a);
}

static __always_inline void announce_end(__u64 sk)
{
	announcements.delete(&sk);
	arrivals.delete(&sk);
#ifdef PROPAGATE_HEADERS
	outgoing.delete(&sk);
	shown.delete(&sk);
#endif
}

/* What is written there is neither HTTP/1 alone nor HTTP/2: from here on all is left as it is, whatever it looks like. */
static __always_inline void announce_no_more(const struct work *w)
{
	__u64 sock = w->sock;

	announcements.delete(&sock);
}

/* A client's write, of HTTP/2, begins. */
static __always_inline void announce_frames(const struct work *w)
{
	__u64 sock = w->sock;
	struct announcement *a = announcements.lookup(&sock);

	if (!a)
		return;
	a->pending = 0;
	a->frames = 1;
	a->by = caller_of(w);
	a->number = kernel_u32(sock + OFFSET_tcp_sock_write_seq);
}

/* A client's request begins in a write that has not happened yet. `count`: how many have begun. */
static __always_inline void announce_begin(struct work *w, __u32 count)
{
	struct announcement *a = announcements.lookup(&w->sock);

	if (!a)
		return;
	a->pending = 0;
	a->field = 0;
	a->head = 0;
	a->request = w->position ? 0 : count;
	a->began = kernel_u32(w->sock + OFFSET_tcp_sock_write_seq);
	a->starts = load64(w->window);
}

/* The head has a traceparent of its own. */
static __always_inline void announce_no_field(struct work *w)
{
	struct announcement *a = w->entering ? announcements.lookup(&w->sock) : NULL;

	if (a)
		a->field = 1;
}

/* The head of a request ends before the current position, in a write that has not happened yet. */
static __always_inline void announce_head(struct work *w, __u32 count)
{
	struct announcement *a = w->entering ? announcements.lookup(&w->sock) : NULL;

	if (a && a->request == count)
		a->head = w->position;
}

/* The request has its place in a trace. `sequence`: its number on the connection. */
static __always_inline void announce(const struct work *w, const struct trace *t, __u32 sequence)
{
	__u64 sock = w->sock;
	struct announcement *a = w->entering ? announcements.lookup(&sock) : NULL;

	if (!a || a->request != sequence + 1 || !a->head || t->flags & TRACE_OWN)
		return;
	a->number = kernel_u32(sock + OFFSET_tcp_sock_write_seq);
	if (a->number != a->began)
		a->head = 0;
	a->trace = *t;
	http1_barrier();
	a->pending = 1;
}

/* TCP's number of the byte at the current position, after a read; 0: not known. */
static __always_inline __u32 arrived_at(const struct work *w)
{
	return w->arrived ? kernel_u32(w->sock + OFFSET_tcp_sock_copied_seq) - w->arrived + w->position : 0;
}

/* The head of a request that was read ends before the current position. */
static __always_inline void arrive_head(const struct connection *c, struct work *w)
{
	w->head_began = c->began;
	w->head_ended = arrived_at(w);
}

/* What came with a segment that begins within that head; NULL: nothing, or not known. */
static __always_inline const struct trace *arrived_with(const struct work *w)
{
	__u64 sock = w->sock;
	struct arrival *a = w->arrived ? arrivals.lookup(&sock) : NULL;

	if (!a || a->number - w->head_began >= w->head_ended - w->head_began)
		return NULL;
	return &a->trace;
}

#endif
#endif
