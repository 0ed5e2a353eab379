/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Trace contexts for other hosts: what a request that a client is about to write says of itself, and where.
 *
 * A request is known here before its bytes are in the socket: they will begin at the socket's write_seq. That number, TCP's
 * own, is what holds offer and bytes together: the programs of probes/propagate.h act on the very byte that has it, and the
 * receiver on the request that begins with it. Where numbers differ nothing happens, whatever the reason.
 *
 * Only compiled where it is asked for: PROPAGATE_TCP or PROPAGATE_HEADERS.
 */
#ifndef AUTOINSTR_PROPAGATE_H
#define AUTOINSTR_PROPAGATE_H

#if defined(PROPAGATE_TCP) || defined(PROPAGATE_HEADERS)
#define PROPAGATE

#define TRACE_ID_SIZE 16
#define SPAN_ID_SIZE 8

struct trace_context {
	__u8 trace_id[TRACE_ID_SIZE];
	__u8 span_id[SPAN_ID_SIZE];
	__u8 flags; /* W3C trace-flags */
	__u8 unused[7];
};

struct offer {
	struct trace_context context;
	__u64 begins;  /* first bytes of the request */
	__u32 number;  /* TCP's, of its first byte */
	__u32 head;    /* bytes of its head, if it may get a header; else 0 */
	__u32 request; /* which of the connection, counted from 1 */
	__u8 pending;  /* nothing was done with it yet */
	__u8 room;     /* the last segment size was made with room for the option */
	__u8 sent;     /* the option went out, and what became of it is not known */
	__u8 unused;
};
/* A client's socket, by address: inserted when a watched process connects, deleted when the kernel destroys it. */
BPF_TABLE("lru_hash", u64, struct offer, offers, MAX_CONNECTIONS);

/* What came with a server's bytes: the last of a socket; inserted when it comes, deleted when the kernel destroys it. */
struct arrival {
	struct trace_context context;
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
static __always_inline void offer_on(__u64 sk)
{
	__u16 family = sock_family(sk);
	struct offer o = {};

	if (family != AF_INET && family != AF_INET6)
		return;
#ifndef PROPAGATE_HEADERS
	struct host to = {};

	read_remote(to.address, sk, family);
	if (!is_private(to.address))
		return;

	__u32 *refused = refusals.lookup(&to);
	if (refused && *refused >= MAX_REFUSALS)
		return;
#endif
	offers.update(&sk, &o);
}

static __always_inline void offer_end(__u64 sk)
{
	offers.delete(&sk);
	arrivals.delete(&sk);
}

/* A client's request begins with the first byte of a write that has not happened yet. `count`: how many have begun. */
static __always_inline void offer_request(struct work *w, const struct trace_context *context, __u32 count)
{
	struct offer *o;

	if (!w->entering || w->position)
		return;
	o = offers.lookup(&w->sock);
	if (!o)
		return;
	o->pending = 0;
	http1_barrier();
	o->context = *context;
	o->number = kernel_u32(w->sock + OFFSET_tcp_sock_write_seq);
	o->head = 0;
	o->request = count;
	http1_barrier();
	o->pending = 1;
}

#ifdef PROPAGATE_HEADERS
#define BEGINS_CONNECT 0x205443454e4e4f43ULL /* "CONNECT " */

/* The head of that request has a traceparent of its own. */
static __always_inline void offer_not(struct work *w)
{
	struct offer *o = w->entering ? offers.lookup(&w->sock) : NULL;

	if (o)
		o->pending = 0;
}

/* The head of a request ends within the write, before the current position. */
static __always_inline void offer_head(struct work *w, __u32 count, const __u8 *head)
{
	struct offer *o = w->entering ? offers.lookup(&w->sock) : NULL;

	if (!o || !o->pending || o->request != count)
		return;
	o->begins = load64(head);
	if (o->begins != BEGINS_CONNECT)
		o->head = w->position;
}
#endif

/*
 * What came with the segment whose first byte is that of the request which begins at the current position; NULL: nothing,
 * or that is not known. To be asked after the read.
 */
static __always_inline const struct trace_context *arrived_with(struct work *w)
{
	struct arrival *a = w->arrived ? arrivals.lookup(&w->sock) : NULL;

	if (!a)
		return NULL;

	__u32 end = kernel_u32(w->sock + OFFSET_tcp_sock_copied_seq);

	return a->number == (__u32)(end - w->arrived + w->position) ? &a->context : NULL;
}

#endif
#endif
