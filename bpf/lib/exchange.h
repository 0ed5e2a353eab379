/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Pairs requests with responses, in order, and sends exchanges to user space.
 *
 * The n-th response answers the n-th request of a connection; framing tells where each begins and ends, so it does not
 * matter in which order the two directions are looked at. The request's side writes `requests`, the response's side
 * `responses`; each may run on another CPU at the same time.
 */
#ifndef AUTOINSTR_EXCHANGE_H
#define AUTOINSTR_EXCHANGE_H

/* The loader gives the bounds of the histograms as lists of X(bound). */
#define ABOVE(bound) +(((bound) - value) >> 63) /* value > bound, without a branch for the verifier to follow */

static __always_inline __u32 duration_bucket(__u64 value)
{
	return 0 DURATION_BOUNDS(ABOVE);
}

static __always_inline __u32 size_bucket(__u64 value)
{
	return 0 SIZE_BOUNDS(ABOVE);
}

#define METHOD_GRPC 0x43505267 /* "gRPC" */

struct uncounted {
	const struct exchange *x;
	__u64 times;
};
APART(count_exchanges, struct uncounted)
{
	const struct exchange *x = at->x;
	__u64 times = at->times;
	struct overflow_key key = {};
	__u64 duration = x->response_end - x->request_start;
	zero_key zero = 0;

	count_several(COUNT_RING_FULL, times);
	key.pid = x->pid;
	key.status = x->status;
	key.role = x->role;
	key.protocol = x->protocol;
	if (x->protocol == PROTOCOL_HTTP2)
		key.method = ((const struct http2_part *)x->head)->flags & HTTP2_MESSAGES ? METHOD_GRPC : 0;
	else if (x->head_size >= 4)
		__builtin_memcpy(&key.method, x->head, 4);

	struct overflow *sums = aggregate.lookup(&key);
	if (!sums) {
		struct overflow *blank = blank_overflow.lookup((__u32 *)&zero);

		if (!blank)
			return 0;
		aggregate.insert(&key, blank);
		sums = aggregate.lookup(&key);
	}
	if (!sums) {
		count_several(COUNT_AGGREGATE_FULL, times);
		__builtin_memset(&key, 0, sizeof(key));
		key.role = x->role;
		sums = aggregate.lookup(&key); /* inserted by the loader */
		if (!sums)
			return 0;
	}
	__sync_fetch_and_add(&sums->count, times);
	__sync_fetch_and_add(&sums->duration_sum, times * duration);
	__sync_fetch_and_add(&sums->request_sum, times * x->request_body);
	__sync_fetch_and_add(&sums->response_sum, times * x->response_body);

	__u32 i = duration_bucket(duration);
	if (i < DURATION_BUCKETS)
		__sync_fetch_and_add(&sums->duration[i], times);
	i = size_bucket(x->request_body);
	if (i < SIZE_BUCKETS)
		__sync_fetch_and_add(&sums->request[i], times);
	i = size_bucket(x->response_body);
	if (i < SIZE_BUCKETS)
		__sync_fetch_and_add(&sums->response[i], times);
	return 0;
}

/* The ring is full: count the exchange, or several like it, so that metrics stay exact. */
static __always_inline void aggregate_exchanges(const struct exchange *x, __u64 times)
{
	struct uncounted at = {x, times};

	TURN(count_exchanges, &at);
}

/* Wake the reader once in a third of the ring; it looks by itself now and then. Rough counting will do. */
static __always_inline __u64 wake_seldom(void)
{
	zero_key zero = 0;
	struct pace *p = pace.lookup((__u32 *)&zero);
	struct control *c = control.lookup((__u32 *)&zero);
	__u64 flags = BPF_RB_NO_WAKEUP;

	if (p && c && ++p->sent >= c->wake_every) {
		p->sent = 0;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	return flags;
}

/* Puts a record into the ring; returns whether there was no room. */
static __always_inline int put_exchange(struct exchange *x)
{
	__u64 flags = wake_seldom();

	return exchanges.ringbuf_output(x, sizeof(*x), flags) != 0;
}

/* The same by a copy in line, which takes half the time, and more instructions; counted if there was no room. */
static __always_inline void send_exchange(struct exchange *x)
{
	__u64 flags = wake_seldom();
	struct exchange *record = exchanges.ringbuf_reserve(sizeof(struct exchange));

	if (!record) {
		aggregate_exchanges(x, 1);
		return;
	}
	*record = *x;
	exchanges.ringbuf_submit(record, flags);
}

/* A request without an answer; NULL: there was no room for it, or it has been answered. */
static __always_inline struct exchange *request_numbered(struct connection *c, __u64 sock, __u32 sequence)
{
	if (c->slot_used && c->slot.sequence == sequence)
		return &c->slot;
	if (c->piped != PIPED_YES)
		return NULL;

	struct pipelined_key key = {.sock = sock, .sequence = sequence};
	struct pipelined *p = pipelined.lookup(&key);

	return p ? &p->exchange : NULL;
}

/* The request that is being read on this connection. */
static __always_inline struct exchange *current_request(struct connection *c, __u64 sock)
{
	return request_numbered(c, sock, c->requests - 1);
}

static __always_inline void fill_request(struct exchange *x, struct work *w, __u32 sequence)
{
	x->request_start = w->time;
	x->request_end = 0;
	x->request_body = 0;
	x->pid = w->pid;
	x->tid = w->tid;
	x->fd = w->fd;
	x->sequence = sequence;
	x->head_size = 0;
	x->flags = 0;
	x->traceparent = 0;
	x->status = 0;
	x->error = 0;
	x->name = 0;
	begin_trace(&x->trace, w->time);
}

/* The first byte of a request. */
static __always_inline void begin_request(struct connection *c, struct work *w)
{
	__u32 sequence = c->requests;

#ifdef PROPAGATE
	if (w->entering)
		announce_begin(w, sequence + 1);
	else
		c->began = arrived_at(w);
#endif

	if (c->answer == ANSWER_ORPHAN) {
		/* a response to something before our time can't go on behind a new request */
		http1_reset(&c->framers[SIDE_RESPONSE]);
		c->answer = ANSWER_NONE;
	}
	if (c->late && c->slot_used && !c->responses && c->role == ROLE_CLIENT) {
		/* probes came between its last request and the answer, which was not seen; nobody pipelines so */
		count(COUNT_LOST_SYNC);
		c->responses = sequence;
		c->slot_used = 0;
	}
	if (!c->slot_used && sequence == c->responses) {
		fill_request(&c->slot, w, sequence);
		c->piped = PIPED_NO;
		c->requests = sequence + 1;
		c->slot_used = 1;
		return;
	}

	struct pipelined_key key = {.sock = w->sock, .sequence = sequence};

	/* the slot serves as the template: the connection's own fields are the same */
	pipelined.update(&key, (struct pipelined *)&c->slot);

	struct pipelined *p = pipelined.lookup(&key);
	if (p) {
		fill_request(&p->exchange, w, sequence);
		c->piped = PIPED_YES;
	} else {
		count(COUNT_PIPELINE_FULL);
		c->piped = PIPED_LOST;
	}
	c->requests = sequence + 1;
}

/* What began as a request is none. */
static __always_inline void forget_request(struct connection *c, __u64 sock)
{
	__u32 sequence = c->requests - 1;

	if (c->slot_used && c->slot.sequence == sequence) {
		c->slot_used = 0;
	} else if (c->piped == PIPED_YES) {
		struct pipelined_key key = {.sock = sock, .sequence = sequence};

		pipelined.delete(&key);
	}
	c->piped = PIPED_NO;
	c->requests = sequence;
}

/* A client's write was looked at on its entry: keeps what to go back to if it is not accepted. */
static __always_inline void note_entry(struct connection *c, __u32 size)
{
	c->entered = size;
	__builtin_memcpy(&c->before, &c->framers[SIDE_REQUEST], sizeof(c->before));
	c->requests_before = c->requests;
	c->responses_before = c->responses;
	c->slot_before = c->slot_used;
	c->piped_before = c->piped;
}

/* Not all that was looked at was written: back. Returns whether that is possible: nothing was answered meanwhile. */
static __always_inline int undo_entry(struct connection *c)
{
	c->entered = 0;
	if (c->responses != c->responses_before)
		return 0;
	bpf_probe_read_kernel(&c->framers[SIDE_REQUEST], sizeof(c->before), &c->before);
	c->requests = c->requests_before;
	c->piped = c->piped_before;
	if (!c->slot_before)
		c->slot_used = 0;
	return 1;
}

static __always_inline void end_request(struct connection *c, struct work *w)
{
	struct framer *f = &c->framers[SIDE_REQUEST];
	struct exchange *x = current_request(c, w->sock);

	if (x) {
		x->request_end = w->time;
		x->request_body = f->body;
		if (f->flags & FRAMER_ABOUT)
			x->flags |= EXCHANGE_BODY_ABOUT;
	}
	http1_reset(f);
}

#define REQUEST_TIMES_SIZE (__builtin_offsetof(struct exchange, protocol) - __builtin_offsetof(struct exchange, request_start))

/* Puts the oldest unanswered request into the slot; returns whether it is there. */
static __always_inline int front_request(struct connection *c, __u64 sock)
{
	__u32 sequence = c->responses;

	if (c->slot_used)
		return c->slot.sequence == sequence;

	struct pipelined_key key = {.sock = sock, .sequence = sequence};
	struct pipelined *p = pipelined.lookup(&key);

	if (!p)
		return 0;
	/* but for what belongs to the connection: a session's may have become known since */
	bpf_probe_read_kernel(&c->slot.request_start, REQUEST_TIMES_SIZE, &p->exchange.request_start);
	bpf_probe_read_kernel(&c->slot.fd, sizeof(c->slot) - __builtin_offsetof(struct exchange, fd), &p->exchange.fd);
	c->slot.flags = p->exchange.flags;
	pipelined.delete(&key);
	if (c->requests == sequence + 1)
		c->piped = PIPED_NO;
	c->slot_used = 1;
	return 1;
}

/* The first byte of a response. */
static __always_inline void begin_response(struct connection *c, struct work *w)
{
	c->response_start = w->time;
	if (c->answer != ANSWER_NONE)
		return; /* after an interim response */
	if (c->guessed && c->framers[SIDE_REQUEST].flags & FRAMER_BEGUN) {
		/* on a connection older than the agent: the end of a body was taken for the start of a request */
		forget_request(c, w->sock);
		http1_reset(&c->framers[SIDE_REQUEST]);
	}
	c->guessed = 0;
	if (c->requests == c->responses) {
		if (c->junk) {
			/* RFC 9112, 3: a server answers what it can't read, too; told as a request without a head */
			c->junk = 0;
			fill_request(&c->slot, w, c->requests);
			c->requests++;
			c->slot_used = 1;
			c->answer = ANSWER_SLOT;
			return;
		}
		count(COUNT_ORPHAN_RESPONSE);
		c->answer = ANSWER_ORPHAN;
		return;
	}
	c->answer = front_request(c, w->sock) ? ANSWER_SLOT : ANSWER_LOST;
}

/* A chunk counts from its size line on: what of its data has not come. */
static __always_inline __u64 missing_of_chunk(const struct framer *f)
{
	return f->remaining > 2 ? f->remaining - 2 : 0;
}

/* Sends the exchange in the slot. `time`: when it ended; `error`: 0 for a complete response. */
static __always_inline void tell(struct connection *c, __u64 time, __u16 error)
{
	struct exchange *x = &c->slot;
	struct framer *request = &c->framers[SIDE_REQUEST], *response = &c->framers[SIDE_RESPONSE];

	if (!x->request_end && (request->flags & FRAMER_BEGUN) && c->requests == x->sequence + 1)
		x->request_body = request->body; /* answered before it was complete */
	if (!x->request_end && request->phase == HTTP1_CHUNK_DATA)
		x->request_body -= missing_of_chunk(request);
	x->status = response->status;
	x->response_start = response->status ? c->response_start : 0;
	x->response_end = time;
	x->response_body = response->body;
	if (response->phase == HTTP1_CHUNK_DATA)
		x->response_body -= missing_of_chunk(response);
	if (response->flags & FRAMER_ABOUT)
		x->flags |= EXCHANGE_BODY_ABOUT;
	x->error = error;
	x->role = c->role;
	if (c->session)
		x->flags |= EXCHANGE_TLS;
	send_exchange(x);
	c->slot_used = 0;
}

static __always_inline void end_response(struct connection *c, __u64 time)
{
	if (c->answer == ANSWER_SLOT)
		tell(c, time, 0);
	if (c->answer == ANSWER_SLOT || c->answer == ANSWER_LOST)
		c->responses++;
	c->answer = ANSWER_NONE;
	http1_reset(&c->framers[SIDE_RESPONSE]);
}

/* Unanswered requests that are told of when a connection ends. */
#define MAX_GIVEN_UP 16

/* The incoming side has ended or failed: what was being answered never will be. */
static __always_inline void give_up(struct connection *c, __u64 sock, __u64 time, __u32 *turns)
{
	struct framer *request = &c->framers[SIDE_REQUEST], *response = &c->framers[SIDE_RESPONSE];

	LOOP (*turns, MAX_GIVEN_UP) {
		int told = c->answer == ANSWER_SLOT, answered = c->answer != ANSWER_ORPHAN;
		__u16 error = c->error;

		http1_barrier();
		if (c->answer != ANSWER_NONE) {
			if (response->flags & FRAMER_UNSEEN)
				time = response->remaining; /* as far as is known it is complete */
			else if (response->phase != HTTP1_UNTIL_CLOSE && !error)
				error = ERROR_TRUNCATED;
		} else {
			if (c->requests == c->responses || !front_request(c, sock))
				break;
			if (c->requests == c->responses + 1 && (request->flags & FRAMER_BEGUN) &&
			    request->phase <= HTTP1_FIELDS)
				break; /* its head is not complete: it was no request yet */
			if (!error)
				error = ERROR_NO_RESPONSE;
			told = 1;
		}
		if (told)
			tell(c, time, error);
		if (answered)
			c->responses++;
		c->answer = ANSWER_NONE;
		http1_reset(response);
	}
}

#endif
